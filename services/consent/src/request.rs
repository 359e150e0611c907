//! What the contract's rules cannot say, and the one shape that the three decisions share.

use std::collections::HashSet;

use error::Violations;
use prost_types::Timestamp;
use proto::{consent::v1::*, section::v1::ResolveIdentifiersRequest};
use store::check_time;

pub fn create(request: &CreatePurposeRequest, violations: &mut Violations) {
    let texts = request.purpose.as_ref().map(|purpose| purpose.notice_texts.as_slice()).unwrap_or_default();
    languages("purpose.notice_texts", texts, violations);
}

pub fn publish(request: &PublishNoticeRequest, violations: &mut Violations) {
    languages("notice_texts", &request.notice_texts, violations);
}

pub fn grant(request: &GrantConsentRequest, violations: &mut Violations) {
    check_time("expire_time", request.expire_time.as_ref(), violations);
}

pub fn check(request: &CheckConsentRequest, violations: &mut Violations) {
    check_time("at", request.at.as_ref(), violations);
}

/// No identifier leads to a customer here.
pub fn resolve(request: &ResolveIdentifiersRequest, violations: &mut Violations) {
    for i in 0..request.identifiers.len() {
        violations.add(format!("identifiers[{i}]"), "is of a kind that consent does not know");
    }
}

fn languages(field: &str, texts: &[NoticeText], violations: &mut Violations) {
    let mut seen = HashSet::new();
    for (i, text) in texts.iter().enumerate() {
        if !seen.insert(text.language.to_lowercase()) {
            violations.add(format!("{field}[{i}].language"), "is given twice");
        }
    }
}

/// Something a customer said.
#[derive(Clone)]
pub struct Statement {
    pub customer_id: String,
    pub purpose_id: String,
    pub channel: i32,
    pub decision: Decision,
    pub evidence: Evidence,
    pub expire_time: Option<Timestamp>,
}

impl From<GrantConsentRequest> for Statement {
    fn from(request: GrantConsentRequest) -> Self {
        Self {
            customer_id: request.customer_id,
            purpose_id: request.purpose_id,
            channel: request.channel,
            decision: Decision::Granted,
            evidence: request.evidence.unwrap_or_default(),
            expire_time: request.expire_time,
        }
    }
}

impl From<RefuseConsentRequest> for Statement {
    fn from(request: RefuseConsentRequest) -> Self {
        Self {
            customer_id: request.customer_id,
            purpose_id: request.purpose_id,
            channel: request.channel,
            decision: Decision::Refused,
            evidence: request.evidence.unwrap_or_default(),
            expire_time: None,
        }
    }
}

impl From<WithdrawConsentRequest> for Statement {
    fn from(request: WithdrawConsentRequest) -> Self {
        Self {
            customer_id: request.customer_id,
            purpose_id: request.purpose_id,
            channel: request.channel,
            decision: Decision::Withdrawn,
            evidence: request.evidence.unwrap_or_default(),
            expire_time: None,
        }
    }
}
