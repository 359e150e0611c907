use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    time::Instant,
};

use client::{Client, retry};
use futures_util::{StreamExt, stream};
use prost::Message;
use proto::{
    contact::v1::{AddContactPointRequest, ContactPoint},
    profile::v1::{CreateProfileRequest, Profile, Provenance, ResolveExternalIdsRequest, Source},
    r#type::v1::ExternalId,
};
use serde_json::Value;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use uuid::Uuid;

use super::{Journal, Tally, bar};
use crate::json::from_json;

/// So many customers are under way at once.
const CONCURRENCY: usize = 64;

/// A customer to create, and the line that says so.
pub struct NewCustomer {
    pub line: usize,
    pub request: CreateProfileRequest,
    /// With their places in the row.
    pub contact_points: Vec<(usize, ContactPoint)>,
}

/// What is imported was known to another system.
pub fn imported(source_name: &str) -> Provenance {
    Provenance { source: Source::System.into(), source_name: source_name.to_owned(), ..Default::default() }
}

/// A customer in the protobuf JSON mapping: `{"profile": Profile, "contact_points": [ContactPoint]}`.
pub fn parse(customer: Value, request_id: Uuid, line: usize) -> anyhow::Result<NewCustomer> {
    let Value::Object(mut fields) = customer else { anyhow::bail!("no object") };
    let profile = fields.remove("profile").unwrap_or_else(|| Value::Object(Default::default()));
    let points = fields.remove("contact_points").or_else(|| fields.remove("contactPoints"));
    let Value::Array(points) = points.unwrap_or(Value::Array(Vec::new())) else { anyhow::bail!("no list") };
    anyhow::ensure!(fields.is_empty(), "something else than a profile and contact points");
    let point = |point| from_json("clientele.contact.v1.ContactPoint", point);
    let contact_points = points.into_iter().map(point).collect::<anyhow::Result<Vec<_>>>()?;
    let contact_points = contact_points.into_iter().enumerate().collect();
    let profile: Profile = from_json("clientele.profile.v1.Profile", profile)?;
    let provenance = Some(imported("import"));
    let request = CreateProfileRequest { request_id: request_id.to_string(), profile: Some(profile), provenance };
    Ok(NewCustomer { line, request, contact_points })
}

/// What became of one customer.
#[derive(Default)]
struct Outcome {
    line: usize,
    customers: Tally,
    contact_points: Tally,
    /// Why something of it was refused, and where.
    refused: BTreeMap<String, Vec<String>>,
}

impl Outcome {
    /// Takes down a refusal; what is no fault of the row fails the import.
    fn refuse(&mut self, field: &str, status: Status) -> anyhow::Result<()> {
        use Code::{AlreadyExists, FailedPrecondition, InvalidArgument};
        let reason = error::reason_of(&status);
        let Some(reason) =
            reason.filter(|_| matches!(status.code(), InvalidArgument | FailedPrecondition | AlreadyExists))
        else {
            return Err(crate::show::failed(status));
        };
        let violations = status.get_details_bad_request().into_iter().flat_map(|bad| bad.field_violations);
        let fields = violations.map(|v| format!("{field}{}: {}", v.field, v.description));
        self.refused.entry(reason).or_default().extend(fields);
        Ok(())
    }
}

/// Creates customers with their contact points, or checks them alone. An import never changes what is there: a
/// customer who is known by an external id of the row is passed over without a write, and a contact point that is there
/// already as well.
pub async fn import(
    client: &Client,
    customers: Vec<NewCustomer>,
    dry_run: bool,
    journal: &mut Journal,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let (customers, mut tally, mut points) = check(customers, journal)?;
    if dry_run {
        println!("a dry run: nothing is written");
        tally.created += customers.len() as u64;
        points.created += customers.iter().map(|customer| customer.contact_points.len() as u64).sum::<u64>();
    } else {
        create(client, &customers, (&mut tally, &mut points), journal).await?;
    }
    tally.print("customers", began);
    if points.created + points.unchanged + points.refused > 0 {
        points.print("contact points", began);
    }
    Ok(())
}

/// What is left once that is refused which the contract and the services can tell without their databases, and how
/// much was.
fn check(customers: Vec<NewCustomer>, journal: &mut Journal) -> anyhow::Result<(Vec<NewCustomer>, Tally, Tally)> {
    let (mut left, mut tally, mut points) = (Vec::new(), Tally::default(), Tally::default());
    let mut lines: HashMap<(String, String), usize> = HashMap::new();
    for mut customer in customers {
        let mut outcome = Outcome { line: customer.line, ..Default::default() };
        let checked = profile::check(&customer.request);
        // A row that is refused takes no id from a later one.
        let id = first_id(&customer).filter(|_| checked.is_ok());
        let twice = id.and_then(|id| match lines.entry((id.system, id.id)) {
            Entry::Occupied(line) => Some(*line.get()),
            Entry::Vacant(line) => {
                line.insert(customer.line);
                None
            }
        });
        if let Some(line) = twice {
            let field = format!("profile.external_ids[0]: is the one of line {line}");
            outcome.refused.insert("EXTERNAL_ID_TAKEN".into(), vec![field]);
        }
        if let Err(failure) = checked {
            outcome.refuse("", failure.into())?;
        }
        let is_refused = !outcome.refused.is_empty();
        tally.refused += u64::from(is_refused);
        // Those of a customer who is refused are not sent either.
        let given = std::mem::take(&mut customer.contact_points).into_iter().filter(|_| !is_refused);
        for (i, point) in given {
            match contact::check(&add(&customer.request, &Uuid::nil().to_string(), &point)) {
                Ok(()) => customer.contact_points.push((i, point)),
                Err(failure) => {
                    outcome.refuse(&format!("contact_points[{i}] "), failure.into())?;
                    points.refused += 1;
                }
            }
        }
        for (reason, fields) in &outcome.refused {
            journal.refuse(outcome.line, reason, fields);
        }
        if !is_refused {
            left.push(customer);
        }
    }
    Ok((left, tally, points))
}

async fn create(
    client: &Client,
    customers: &[NewCustomer],
    (tally, points): (&mut Tally, &mut Tally),
    journal: &mut Journal,
) -> anyhow::Result<()> {
    let progress = bar(customers.len() as u64, "customers");
    for customers in customers.chunks(250) {
        let known = known(client, customers).await?;
        let work = stream::iter(customers.iter().zip(known)).map(|(customer, known)| one(client, customer, known));
        let mut done = work.buffer_unordered(CONCURRENCY);
        while let Some(outcome) = done.next().await {
            let outcome = outcome?;
            tally.add(&outcome.customers);
            points.add(&outcome.contact_points);
            for (reason, fields) in &outcome.refused {
                journal.refuse(outcome.line, reason, fields);
            }
        }
        progress.inc(customers.len() as u64);
    }
    progress.finish_and_clear();
    Ok(())
}

async fn one(client: &Client, customer: &NewCustomer, known: Option<String>) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome { line: customer.line, ..Default::default() };
    let customer_id = match known {
        Some(known) => {
            outcome.customers.unchanged += 1;
            known
        }
        None => {
            let call = || async { client.profile().create_profile(customer.request.clone()).await };
            match retry(call).await {
                Ok(reply) => {
                    outcome.customers.written(reply.metadata().contains_key("clientele-replayed"));
                    reply.into_inner().profile.unwrap_or_default().customer_id
                }
                Err(status) => {
                    outcome.refuse("", status)?;
                    outcome.customers.refused += 1;
                    return Ok(outcome);
                }
            }
        }
    };
    for (i, point) in &customer.contact_points {
        let request = add(&customer.request, &customer_id, point);
        let call = || async { client.contact().add_contact_point(request.clone()).await };
        match retry(call).await {
            Ok(reply) => outcome.contact_points.written(reply.metadata().contains_key("clientele-replayed")),
            Err(status) if error::reason_of(&status).as_deref() == Some("CONTACT_POINT_EXISTS") => {
                outcome.contact_points.unchanged += 1;
            }
            Err(status) => {
                outcome.refuse(&format!("contact_points[{i}] "), status)?;
                outcome.contact_points.refused += 1;
            }
        }
    }
    Ok(outcome)
}

/// The request for a row's contact point, which is the same whenever it is imported.
fn add(customer: &CreateProfileRequest, customer_id: &str, point: &ContactPoint) -> AddContactPointRequest {
    // By what it says and not by its place, from which another's refusal may move it.
    let said = [customer.request_id.as_bytes(), &[0], point.encode_to_vec().as_slice()].concat();
    AddContactPointRequest {
        request_id: Uuid::new_v5(&Uuid::NAMESPACE_OID, &said).to_string(),
        customer_id: customer_id.to_owned(),
        contact_point: Some(point.clone()),
    }
}

fn first_id(customer: &NewCustomer) -> Option<ExternalId> {
    customer.request.profile.as_ref()?.external_ids.first().cloned()
}

/// Who each customer is, if its first external id leads to somebody.
async fn known(client: &Client, customers: &[NewCustomer]) -> anyhow::Result<Vec<Option<String>>> {
    let external_ids: Vec<ExternalId> = customers.iter().filter_map(first_id).collect();
    if external_ids.is_empty() {
        return Ok(vec![None; customers.len()]);
    }
    let request = ResolveExternalIdsRequest { external_ids, consistency: None };
    let call = || async { client.profile().resolve_external_ids(request.clone()).await };
    let results = retry(call).await.map_err(crate::show::failed)?.into_inner().results;
    let mut found = results.into_iter();
    let known = |customer: &NewCustomer| {
        let result = first_id(customer).and_then(|_| found.next())?;
        let own = customer.request.profile.as_ref().map(|p| p.customer_id.to_lowercase()).unwrap_or_default();
        Some(result.customer_id).filter(|id| !id.is_empty() && (own.is_empty() || own == *id))
    };
    Ok(customers.iter().map(known).collect())
}
