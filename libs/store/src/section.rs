use std::collections::HashMap;

use chrono::{DateTime, Utc};
use error::reason;
use prost::Message;
use proto::section::v1::{BatchGetSectionsRequest, BatchGetSectionsResponse, Section};
use uuid::Uuid;

use crate::{Db, Result, timestamp, uuid};

/// One customer's section as a service computed it.
pub struct Body {
    /// The customer's version, read in the same statement as the content.
    pub version: i64,
    /// The first instant at which it reads differently without a write.
    pub valid_until: Option<DateTime<Utc>>,
    /// The encoded section.
    pub body: Vec<u8>,
}

impl Body {
    /// A section that time alone does not change.
    pub fn lasting(version: i64, section: &impl Message) -> Self {
        Self { version, valid_until: None, body: section.encode_to_vec() }
    }
}

impl Db {
    /// Puts sections in the order of the request. One that is older than a token demands is a
    /// failure of its own.
    pub fn sections(
        &self,
        request: &BatchGetSectionsRequest,
        as_of: DateTime<Utc>,
        mut bodies: HashMap<Uuid, Body>,
    ) -> Result<BatchGetSectionsResponse> {
        let required = self.required(request.consistency.as_ref())?;
        let mut sections = Vec::with_capacity(request.customer_ids.len());
        for customer_id in &request.customer_ids {
            let id = uuid(customer_id)?;
            let body = bodies.get_mut(&id);
            let version = body.as_ref().map_or(0, |body| body.version);
            let mut section = Section {
                customer_id: customer_id.clone(),
                version,
                as_of: Some(timestamp(as_of)),
                ..Default::default()
            };
            if version < required.get(&id).copied().unwrap_or(0) {
                section.failure = reason::CONSISTENCY_TOKEN_EXPIRED.name.to_owned();
            } else if let Some(body) = body {
                section.valid_until = body.valid_until.map(timestamp);
                section.body = body.body.clone().into();
            }
            sections.push(section);
        }
        Ok(BatchGetSectionsResponse { sections })
    }
}
