use std::time::Instant;

use client::{Client, retry};
use futures_util::{StreamExt, stream};
use proto::{
    profile::v1::{CreateProfileRequest, Provenance, ResolveExternalIdsRequest, Source},
    r#type::v1::ExternalId,
};
use tonic::Code;
use tonic_types::StatusExt;

use super::{Journal, Tally, bar};

/// So many calls are under way at once.
const CONCURRENCY: usize = 64;

/// A customer to create, and the line that says so.
pub struct NewCustomer {
    pub line: usize,
    pub request: CreateProfileRequest,
}

/// What is imported was known to another system.
pub fn imported(source_name: &str) -> Provenance {
    Provenance { source: Source::System.into(), source_name: source_name.to_owned(), ..Default::default() }
}

/// Creates customers. An import never changes one: those that are there already, known by their own
/// external id, are passed over without a write.
pub async fn create(client: &Client, customers: Vec<NewCustomer>, journal: &mut Journal) -> anyhow::Result<()> {
    let began = Instant::now();
    let progress = bar(customers.len() as u64, "customers");
    let mut tally = Tally::default();
    for customers in customers.chunks(250) {
        let known = known(client, customers).await?;
        let new = customers.iter().zip(known).filter(|(_, known)| !known).map(|(customer, _)| customer);
        let new: Vec<&NewCustomer> = new.collect();
        tally.unchanged += (customers.len() - new.len()) as u64;
        let calls = stream::iter(new).map(|customer| async move {
            let call = || async { client.profile().create_profile(customer.request.clone()).await };
            (customer.line, retry(call).await)
        });
        let mut calls = calls.buffer_unordered(CONCURRENCY);
        while let Some((line, created)) = calls.next().await {
            match created {
                Ok(reply) if reply.metadata().contains_key("clientele-replayed") => tally.unchanged += 1,
                Ok(_) => tally.created += 1,
                Err(status)
                    if matches!(
                        status.code(),
                        Code::InvalidArgument | Code::FailedPrecondition | Code::AlreadyExists
                    ) =>
                {
                    let reason = error::reason_of(&status).ok_or_else(|| crate::show::failed(status.clone()))?;
                    let violations = status.get_details_bad_request().map(|bad| bad.field_violations);
                    let fields = violations.into_iter().flatten().map(|v| format!("{}: {}", v.field, v.description));
                    journal.refuse(line, &reason, &fields.collect::<Vec<_>>());
                    tally.refused += 1;
                }
                // Nothing is wrong with the row; it has to be sent again.
                Err(status) => return Err(crate::show::failed(status)),
            }
        }
        progress.inc(customers.len() as u64);
    }
    progress.finish_and_clear();
    tally.print("customers", began);
    Ok(())
}

/// Whether each customer is there already: its first external id leads to it.
async fn known(client: &Client, customers: &[NewCustomer]) -> anyhow::Result<Vec<bool>> {
    let first = |customer: &NewCustomer| -> Option<ExternalId> {
        customer.request.profile.as_ref()?.external_ids.first().cloned()
    };
    let external_ids: Vec<ExternalId> = customers.iter().filter_map(first).collect();
    if external_ids.is_empty() {
        return Ok(vec![false; customers.len()]);
    }
    let request = ResolveExternalIdsRequest { external_ids, consistency: None };
    let call = || async { client.profile().resolve_external_ids(request.clone()).await };
    let results = match retry(call).await {
        Ok(reply) => reply.into_inner().results,
        // Some row has an id that is none. Each is refused by itself when it is created.
        Err(status) if status.code() == Code::InvalidArgument => return Ok(vec![false; customers.len()]),
        Err(status) => return Err(crate::show::failed(status)),
    };
    let mut found = results.into_iter();
    let known = |customer: &NewCustomer| {
        let Some(result) = first(customer).and_then(|_| found.next()) else { return false };
        let own = customer.request.profile.as_ref().map(|p| p.customer_id.to_lowercase()).unwrap_or_default();
        !result.customer_id.is_empty() && (own.is_empty() || own == result.customer_id)
    };
    Ok(customers.iter().map(known).collect())
}
