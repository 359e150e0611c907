use std::{collections::HashMap, sync::Arc};

use cache::Want;
use chrono::{DateTime, Utc};
use error::{Failure, reason};
use futures_util::future::BoxFuture;
use prost::Message;
use proto::{
    section::v1::{BatchGetSectionsRequest, BatchGetSectionsResponse, Section},
    r#type::v1::Consistency,
};
use uuid::Uuid;

use crate::{Db, Fault, Result, timestamp, uuid};

/// Reads the sections of up to 256 customers by one statement, in the order of their ids.
pub type Load = Arc<dyn Fn(Vec<Uuid>) -> BoxFuture<'static, Result<Vec<Section>>> + Send + Sync>;

/// Binds a service's way to read sections to its store.
pub fn loader<S, F>(store: &S, load: fn(S, Vec<Uuid>) -> F) -> Load
where
    S: Clone + Send + Sync + 'static,
    F: Future<Output = Result<Vec<Section>>> + Send + 'static,
{
    let store = store.clone();
    Arc::new(move |ids| Box::pin(load(store.clone(), ids)))
}

/// One customer's section as a service computed it.
pub struct Body {
    /// The customer's version, read in the same statement as the content.
    pub version: i64,
    /// The first instant at which it reads differently without a write.
    pub valid_until: Option<DateTime<Utc>>,
    /// The encoded section, or why this customer's cannot be read; the others' can.
    pub body: Result<Vec<u8>, Failure>,
}

impl Body {
    /// A section that time alone does not change.
    pub fn lasting(version: i64, section: Result<impl Message, Fault>) -> Self {
        let body = section.map(|section| section.encode_to_vec()).map_err(Fault::into_failure);
        Self { version, valid_until: None, body }
    }
}

/// Puts sections in the order of the ids. A customer of whom nothing is known has version 0.
pub fn in_order(ids: &[Uuid], as_of: DateTime<Utc>, bodies: &HashMap<Uuid, Body>) -> Vec<Section> {
    let section = |id: &Uuid| {
        let mut section = Section { customer_id: id.to_string(), as_of: Some(timestamp(as_of)), ..Default::default() };
        if let Some(Body { version, valid_until, body }) = bodies.get(id) {
            section.version = *version;
            section.valid_until = valid_until.map(timestamp);
            match body {
                Ok(body) => section.body = body.clone().into(),
                Err(failure) => section.failure = failure.reason().name.to_owned(),
            }
        }
        section
    };
    ids.iter().map(section).collect()
}

impl Db {
    /// Answers a request for sections: from the cache what is there, unless the caller has looked or
    /// wants it from the database, and by one statement what is not; which then fills the cache.
    pub async fn sections(&self, load: &Load, request: &BatchGetSectionsRequest) -> Result<BatchGetSectionsResponse> {
        let consistency = request.consistency.as_ref();
        let epoch = self.epoch();
        let ids = request.customer_ids.iter().map(|id| uuid(id)).collect::<Result<Vec<_>>>()?;
        let past = request.cache_missed || request.uncached || consistency.is_some_and(|c| c.fully_consistent);
        let mut sections = match self.cache() {
            Some(cache) if !past => cache.get(&self.wants(&ids)).await,
            _ => ids.iter().map(|_| None).collect(),
        };
        let required = self.required(consistency)?;
        for (id, section) in ids.iter().zip(&mut sections) {
            section.take_if(|section| section.version < required.get(id).copied().unwrap_or(0));
        }
        let missing: Vec<Uuid> =
            ids.iter().zip(&sections).filter(|(_, section)| section.is_none()).map(|(id, _)| *id).collect();
        let loaded = match request.uncached {
            true => self.load_past_cache(load, missing).await?,
            false => self.load(load, missing).await?,
        };
        let mut loaded = loaded.into_iter();
        let mut sections: Vec<Section> =
            sections.into_iter().map(|section| section.or_else(|| loaded.next()).unwrap_or_default()).collect();
        self.refuse_stale(&mut sections, consistency)?;
        // What was read in one life of the database must not be told as of the next.
        if self.epoch() != epoch {
            return Err(reason::DATABASE_UNAVAILABLE.into());
        }
        Ok(BatchGetSectionsResponse { sections, data_epoch: epoch.to_vec().into() })
    }

    /// What the sections of some customers say, for a service's own reads, in the order of the ids. `None`
    /// for a customer of whom nothing is known; one that fails is no other's trouble.
    pub async fn say<T: Message + Default>(
        &self,
        load: &Load,
        customer_ids: &[String],
        consistency: &Option<Consistency>,
    ) -> Result<Vec<Result<Option<T>>>> {
        let (customer_ids, consistency) = (customer_ids.to_vec(), consistency.clone());
        let request = BatchGetSectionsRequest { customer_ids, consistency, ..Default::default() };
        let decode = |section: Section| match section.failure.as_str() {
            "" if section.version == 0 => Ok(None),
            "" => T::decode(section.body).map(Some).map_err(|_| reason::INTERNAL_ERROR.into()),
            name => {
                let known =
                    [reason::CONSISTENCY_TOKEN_EXPIRED, reason::CUSTOMER_ERASED, reason::SEALED_VALUE_UNREADABLE];
                Err(known.into_iter().find(|reason| reason.name == name).unwrap_or(reason::INTERNAL_ERROR).into())
            }
        };
        Ok(self.sections(load, &request).await?.sections.into_iter().map(decode).collect())
    }

    /// Reads sections from the database and fills the cache with them.
    async fn load(&self, load: &Load, ids: Vec<Uuid>) -> Result<Vec<Section>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let Some(cache) = self.cache() else { return self.load_past_cache(load, ids).await };
        let wants = self.wants(&ids);
        let begun = cache.begin(&wants).await;
        let sections = self.load_past_cache(load, ids).await?;
        if let Some(begun) = begun {
            let (cache, filled) = (cache.clone(), sections.clone());
            tokio::spawn(async move { cache.fill(&wants, &filled, begun).await });
        }
        Ok(sections)
    }

    /// Reads sections by the service's statement. Who was erased has none.
    pub async fn load_past_cache(&self, load: &Load, ids: Vec<Uuid>) -> Result<Vec<Section>> {
        let mut sections = load(ids.clone()).await?;
        for erased in self.erased(&ids).await? {
            for section in sections.iter_mut().filter(|section| section.customer_id == erased.to_string()) {
                section.body.clear();
                section.failure = reason::CUSTOMER_ERASED.name.to_owned();
            }
        }
        Ok(sections)
    }

    fn wants(&self, ids: &[Uuid]) -> Vec<Want> {
        let (service, life) = (self.service(), self.epoch());
        ids.iter().map(|customer| Want { service, life, customer: *customer }).collect()
    }

    /// Fails each section that is older than a token demands.
    fn refuse_stale(&self, sections: &mut [Section], consistency: Option<&Consistency>) -> Result<()> {
        let required = self.required(consistency)?;
        if required.is_empty() {
            return Ok(());
        }
        for section in sections {
            let required = required.get(&uuid(&section.customer_id)?).copied().unwrap_or(0);
            if section.version < required && section.failure.is_empty() {
                section.body.clear();
                section.failure = reason::CONSISTENCY_TOKEN_EXPIRED.name.to_owned();
            }
        }
        Ok(())
    }
}
