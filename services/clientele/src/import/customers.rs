use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    time::{Duration, Instant},
};

use client::Client;
use futures_util::{StreamExt, stream};
use prost::Message;
use proto::{
    contact::v1::{AddContactPointRequest, BatchAddContactPointsRequest, ContactPoint},
    profile::v1::{
        BatchCreateProfilesRequest, CreateProfileRequest, Profile, Provenance, ResolveExternalIdsRequest, Source,
    },
    r#type::v1::ExternalId,
};
use rayon::prelude::*;
use serde_json::Value;
use tonic::{Request, Status};
use uuid::Uuid;

use super::{Journal, Tally, bar};
use crate::json::from_json;

/// So many customers or contact points travel together, if they are not larger than that,
const BATCH: usize = 250;
const BATCH_BYTES: usize = 1 << 20;
/// and so many batches of customers are under way at once.
const CONCURRENCY: usize = 4;
/// A batch may take so long: of one in which everything is refused each is tried alone.
const PATIENCE: Duration = Duration::from_secs(60);

/// A customer to create, and the line that says so.
#[derive(Clone)]
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
    /// Takes down a refusal of the row or of a part of it.
    fn refuse(&mut self, part: &str, reason: &str, fields: Vec<String>) {
        let fields = fields.into_iter().map(|field| format!("{part}{field}"));
        self.refused.entry(reason.to_owned()).or_default().extend(fields);
    }
}

/// A row that makes no customer: its line, and why.
pub type NoCustomer = (usize, &'static str);

/// A row: the customer unless it was refused, and what became of it so far.
struct Checked {
    customer: Option<NewCustomer>,
    outcome: Outcome,
}

/// Creates customers with their contact points, or checks them alone. A row becomes a customer when its turn comes. An
/// import never changes what is there: a customer who is known by an external id of the row is passed over without a
/// write, and a contact point that is there already as well.
pub async fn import<R: Sync>(
    client: &Client,
    rows: &[R],
    read: impl Fn(&R) -> Result<NewCustomer, NoCustomer> + Sync,
    dry_run: bool,
    journal: &mut Journal,
) -> anyhow::Result<()> {
    let began = Instant::now();
    if dry_run {
        println!("a dry run: nothing is written");
    }
    let (mut tally, mut points) = (Tally::default(), Tally::default());
    let progress = bar(rows.len() as u64, "customers");
    let mut lines = HashMap::new();
    let chunks = stream::iter(rows.chunks(BATCH)).map(|rows| {
        let mut checked: Vec<Checked> = rows.par_iter().map(|row| check(read(row))).collect();
        checked.iter_mut().for_each(|checked| refuse_twice(checked, &mut lines));
        checked
    });
    let mut done = chunks.map(|checked| create(client, checked, dry_run)).buffered(CONCURRENCY);
    while let Some(outcomes) = done.next().await {
        for outcome in outcomes? {
            tally.add(&outcome.customers);
            points.add(&outcome.contact_points);
            for (reason, fields) in &outcome.refused {
                journal.refuse(outcome.line, reason, fields);
            }
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    tally.print("customers", began);
    if points.created + points.unchanged + points.refused > 0 {
        points.print("contact points", began);
    }
    Ok(())
}

/// What is left of a row once that is refused which the contract and the services can tell without their databases.
fn check(row: Result<NewCustomer, NoCustomer>) -> Checked {
    let mut outcome = Outcome::default();
    let mut customer = match row {
        Ok(customer) => customer,
        Err((line, text)) => {
            outcome.line = line;
            outcome.refuse("", "INVALID_ROW", vec![text.to_owned()]);
            return Checked { customer: None, outcome };
        }
    };
    outcome.line = customer.line;
    if let Err(failure) = profile::check(&customer.request) {
        outcome.refuse("", failure.reason().name, failure.invalid_fields());
        outcome.customers.refused += 1;
        return Checked { customer: None, outcome };
    }
    for (i, point) in std::mem::take(&mut customer.contact_points) {
        match contact::check(&add(&customer.request, &Uuid::nil().to_string(), &point)) {
            Ok(()) => customer.contact_points.push((i, point)),
            Err(failure) => {
                outcome.refuse(&format!("contact_points[{i}] "), failure.reason().name, failure.invalid_fields());
                outcome.contact_points.refused += 1;
            }
        }
    }
    Checked { customer: Some(customer), outcome }
}

/// Refuses a customer whose first external id is an earlier row's. A row that was refused takes no id from a later one.
fn refuse_twice(checked: &mut Checked, lines: &mut HashMap<(String, String), usize>) {
    let Some(id) = checked.customer.as_ref().and_then(first_id) else { return };
    match lines.entry((id.system, id.id)) {
        Entry::Occupied(line) => {
            let field = format!("profile.external_ids[0]: is the one of line {}", line.get());
            // Nor are its contact points sent, nor counted.
            let mut outcome = Outcome { line: checked.outcome.line, ..Default::default() };
            outcome.refuse("", "EXTERNAL_ID_TAKEN", vec![field]);
            outcome.customers.refused += 1;
            *checked = Checked { customer: None, outcome };
        }
        Entry::Vacant(line) => drop(line.insert(checked.outcome.line)),
    }
}

/// Creates who was not refused, and answers what became of all.
async fn create(client: &Client, checked: Vec<Checked>, dry_run: bool) -> anyhow::Result<Vec<Outcome>> {
    let (left, refused): (Vec<Checked>, Vec<Checked>) = checked.into_iter().partition(|row| row.customer.is_some());
    let left = left.into_iter().filter_map(|row| Some((row.customer?, row.outcome)));
    let (customers, mut outcomes): (Vec<NewCustomer>, Vec<Outcome>) = left.unzip();
    if dry_run {
        for (outcome, customer) in outcomes.iter_mut().zip(&customers) {
            outcome.customers.created += 1;
            outcome.contact_points.created += customer.contact_points.len() as u64;
        }
    } else {
        batch(client, &customers, &mut outcomes).await?;
    }
    outcomes.extend(refused.into_iter().map(|row| row.outcome));
    Ok(outcomes)
}

/// Creates customers, and adds to their outcomes.
async fn batch(client: &Client, customers: &[NewCustomer], outcomes: &mut [Outcome]) -> anyhow::Result<()> {
    let mut ids = known(client, customers).await?;
    let new: Vec<usize> = (0..ids.len()).filter(|i| ids[*i].is_none()).collect();
    let requests = new.iter().map(|i| customers[*i].request.clone()).collect();
    let results = send(requests, |requests| async {
        let request = patient(BatchCreateProfilesRequest { requests });
        let reply = client.profile().batch_create_profiles(request).await?;
        Ok(reply.into_inner().results)
    });
    for outcome in outcomes.iter_mut().zip(&ids).filter(|(_, id)| id.is_some()).map(|(outcome, _)| outcome) {
        outcome.customers.unchanged += 1;
    }
    for (i, result) in new.into_iter().zip(results.await?) {
        if result.failure.is_empty() {
            outcomes[i].customers.written(result.replayed);
            ids[i] = Some(result.customer_id);
        } else {
            outcomes[i].customers.refused += 1;
            outcomes[i].refuse("", &result.failure, result.invalid_fields);
        }
    }
    let known =
        customers.iter().zip(&ids).enumerate().filter_map(|(i, (customer, id))| Some((i, customer, id.as_ref()?)));
    let (places, requests): (Vec<(usize, usize)>, Vec<AddContactPointRequest>) = known
        .flat_map(|(row, customer, id)| {
            customer.contact_points.iter().map(move |(i, point)| ((row, *i), add(&customer.request, id, point)))
        })
        .unzip();
    let results = send(requests, |requests| async {
        let request = patient(BatchAddContactPointsRequest { requests });
        let reply = client.contact().batch_add_contact_points(request).await?;
        Ok(reply.into_inner().results)
    });
    for ((row, i), result) in places.into_iter().zip(results.await?) {
        let outcome = &mut outcomes[row];
        match result.failure.as_str() {
            "" => outcome.contact_points.written(result.replayed),
            "CONTACT_POINT_EXISTS" => outcome.contact_points.unchanged += 1,
            _ => {
                outcome.contact_points.refused += 1;
                outcome.refuse(&format!("contact_points[{i}] "), &result.failure, result.invalid_fields);
            }
        }
    }
    Ok(())
}

/// A request that may take longer than a look-up.
fn patient<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    request
}

/// Sends requests in batches, one after another, and answers all results in their order.
async fn send<T: Message + Clone, R, F>(requests: Vec<T>, call: impl Fn(Vec<T>) -> F) -> anyhow::Result<Vec<R>>
where
    F: Future<Output = Result<Vec<R>, Status>>,
{
    let (mut results, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
    let mut requests = requests.into_iter().peekable();
    while let Some(request) = requests.next() {
        bytes += request.encoded_len();
        batch.push(request);
        let next = requests.peek().map_or(usize::MAX, Message::encoded_len);
        if batch.len() == BATCH || next.saturating_add(bytes) > BATCH_BYTES {
            results.extend(call(std::mem::take(&mut batch)).await.map_err(crate::show::failed)?);
            bytes = 0;
        }
    }
    Ok(results)
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
    let resolved = client.profile().resolve_external_ids(request).await;
    let results = resolved.map_err(crate::show::failed)?.into_inner().results;
    let mut found = results.into_iter();
    let known = |customer: &NewCustomer| {
        let result = first_id(customer).and_then(|_| found.next())?;
        let own = customer.request.profile.as_ref().map(|p| p.customer_id.to_lowercase()).unwrap_or_default();
        Some(result.customer_id).filter(|id| !id.is_empty() && (own.is_empty() || own == *id))
    };
    Ok(customers.iter().map(known).collect())
}
