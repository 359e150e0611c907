//! The heart: a customer's view. Every section is asked for at the same time, within what is left
//! of the caller's deadline; what does not come back in time is named, and the rest is the answer.

use std::time::{Duration, Instant};

use access::Call;
use error::Failure;
use futures_util::future::join_all;
use prost::Message;
use proto::{
    customer::v1::{Customer, SectionName, SectionState, UnavailableSection},
    section::v1::{BatchGetSectionsRequest, Section},
    r#type::v1::Consistency,
};
use tonic::{Code, Response, Status};

use crate::{
    peers::{Owner, Peers},
    reason,
};

/// What the gateway keeps of the caller's time, at most, to put the answer together and send it.
const MARGIN: Duration = Duration::from_millis(20);

/// What one owner answered about all customers, or why it did not.
type Answer = (SectionName, Result<Vec<Section>, String>);

/// Reads customers, each with a result of its own, in the order of the ids.
pub async fn read(
    peers: &Peers,
    call: &Call,
    customer_ids: &[String],
    sections: &[SectionName],
    consistency: Option<Consistency>,
) -> Result<Vec<Result<Customer, Failure>>, Failure> {
    // Profile is always asked, since it alone knows whether a customer exists.
    let owners = peers.all().filter(|owner| owner.section == SectionName::Profile || sections.contains(&owner.section));
    let message = BatchGetSectionsRequest { customer_ids: customer_ids.to_vec(), consistency };
    let answers = join_all(owners.map(|owner| ask(owner, call, message.clone()))).await;
    // That is no owner's trouble but the caller's own.
    let invalid = reason::CONSISTENCY_TOKEN_INVALID;
    if answers.iter().any(|(_, answer)| answer.as_ref().is_err_and(|reason| reason == invalid.name)) {
        return Err(invalid.into());
    }
    let compose = |(i, id): (usize, &String)| compose(id, sections, answers.iter().map(|answer| part(answer, i)));
    Ok(customer_ids.iter().enumerate().map(compose).collect())
}

async fn ask(owner: &Owner, call: &Call, message: BatchGetSectionsRequest) -> Answer {
    let mut sections = owner.peer.sections.clone();
    let answer = in_time(call, async |call| sections.batch_get_sections(owner.peer.request(call, message)).await).await;
    (owner.section, answer.map(|reply| reply.sections))
}

/// Asks an owner within what is left of the caller's time, less a margin in which the caller gets
/// its answer without this owner's part. A failure is a reason's name.
pub async fn in_time<T>(call: &Call, ask: impl AsyncFnOnce(&Call) -> Result<Response<T>, Status>) -> Result<T, String> {
    let left = call.deadline.saturating_duration_since(Instant::now());
    let left = left - MARGIN.min(left / 5);
    let call = Call { deadline: Instant::now() + left, ..call.clone() };
    match tokio::time::timeout(left, ask(&call)).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) => Err(reason_of(&status)),
        Err(_) => Err(reason::DEADLINE_EXCEEDED.name.to_owned()),
    }
}

/// The owner's own reason; a status without one is the transport's.
pub fn reason_of(status: &Status) -> String {
    error::reason_of(status).unwrap_or_else(|| match status.code() {
        Code::DeadlineExceeded | Code::Cancelled => reason::DEADLINE_EXCEEDED.name.to_owned(),
        _ => reason::SERVICE_UNAVAILABLE.name.to_owned(),
    })
}

/// One customer's part of an answer.
fn part((section, answer): &Answer, i: usize) -> (SectionName, Result<&Section, &str>) {
    let part = match answer {
        Err(reason) => Err(reason.as_str()),
        Ok(sections) => match sections.get(i) {
            None => Err(reason::INTERNAL_ERROR.name),
            Some(section) => part_of(section),
        },
    };
    (*section, part)
}

/// Puts a customer's sections side by side.
fn compose<'a>(
    customer_id: &str,
    wanted: &[SectionName],
    parts: impl Iterator<Item = (SectionName, Result<&'a Section, &'a str>)>,
) -> Result<Customer, Failure> {
    let mut customer = Customer { customer_id: customer_id.to_owned(), ..Default::default() };
    for (name, part) in parts {
        if name == SectionName::Profile && part.is_ok_and(|section| section.version == 0) {
            return Err(reason::CUSTOMER_NOT_FOUND.into());
        }
        if !wanted.contains(&name) {
            continue;
        }
        add(&mut customer, name, part);
    }
    Ok(customer)
}

/// Adds a section, or says that it is missing.
fn add(customer: &mut Customer, name: SectionName, part: Result<&Section, &str>) {
    match part.and_then(|section| place(customer, name, section).map(|()| section)) {
        Err(reason) => {
            customer.unavailable.push(UnavailableSection { section: name.into(), reason: reason.to_owned() })
        }
        Ok(section) => customer.section_states.push(SectionState {
            section: name.into(),
            version: section.version,
            as_of: section.as_of,
            valid_until: section.valid_until,
        }),
    }
}

fn part_of(section: &Section) -> Result<&Section, &str> {
    if section.failure.is_empty() { Ok(section) } else { Err(&section.failure) }
}

/// One section alone, as a customer.
pub fn alone(name: SectionName, section: &Section) -> Customer {
    let mut customer = Customer { customer_id: section.customer_id.clone(), ..Default::default() };
    add(&mut customer, name, part_of(section));
    customer
}

fn place(customer: &mut Customer, name: SectionName, section: &Section) -> Result<(), &'static str> {
    fn decode<T: Message + Default>(section: &Section) -> Result<Option<T>, &'static str> {
        T::decode(section.body.clone()).map(Some).map_err(|_| reason::INTERNAL_ERROR.name)
    }
    match name {
        SectionName::Unspecified => (),
        SectionName::Profile => customer.profile = decode(section)?,
        SectionName::Contact => customer.contact = decode(section)?,
        SectionName::OrderHistory => customer.order_history = decode(section)?,
        SectionName::Interaction => customer.interaction = decode(section)?,
        SectionName::Loyalty => customer.loyalty = decode(section)?,
        SectionName::Consent => customer.consent = decode(section)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [SectionName; 2] = [SectionName::Profile, SectionName::Loyalty];

    fn section(version: i64) -> Section {
        Section { version, ..Default::default() }
    }

    #[test]
    fn a_section_that_is_missing_is_named_and_the_rest_is_there() {
        let profile = section(3);
        let parts = [(SectionName::Profile, Ok(&profile)), (SectionName::Loyalty, Err("SERVICE_UNAVAILABLE"))];
        let customer = compose("id", &ALL, parts.into_iter()).unwrap();
        assert!(customer.profile.is_some() && customer.loyalty.is_none());
        assert_eq!(customer.unavailable[0].section(), SectionName::Loyalty);
        assert_eq!(customer.unavailable[0].reason, "SERVICE_UNAVAILABLE");
    }

    #[test]
    fn nobody_is_found_whom_profile_does_not_know() {
        let (unknown, loyalty) = (section(0), section(1));
        let parts = [(SectionName::Profile, Ok(&unknown)), (SectionName::Loyalty, Ok(&loyalty))];
        let failure = compose("id", &[SectionName::Loyalty], parts.into_iter()).err().unwrap();
        assert_eq!(failure.reason(), reason::CUSTOMER_NOT_FOUND);
    }

    #[test]
    fn a_customer_is_not_denied_because_profile_is_silent() {
        let loyalty = section(1);
        let parts = [(SectionName::Profile, Err("DEADLINE_EXCEEDED")), (SectionName::Loyalty, Ok(&loyalty))];
        let customer = compose("id", &[SectionName::Loyalty], parts.into_iter()).unwrap();
        assert!(customer.loyalty.is_some() && customer.unavailable.is_empty());
    }
}
