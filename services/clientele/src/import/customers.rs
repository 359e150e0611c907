use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    time::{Duration, Instant},
};

use client::{Client, retry};
use futures_util::{StreamExt, stream};
use prost::Message;
use proto::{
    contact::v1::{AddContactPointRequest, BatchAddContactPointsRequest, ContactPoint},
    profile::v1::{
        BatchCreateProfilesRequest, CreateProfileRequest, Profile, Provenance, ResolveExternalIdsRequest, Source,
    },
    r#type::v1::ExternalId,
};
use serde_json::Value;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;
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
    let mut done =
        stream::iter(customers.chunks(BATCH)).map(|customers| batch(client, customers)).buffered(CONCURRENCY);
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
    Ok(())
}

async fn batch(client: &Client, customers: &[NewCustomer]) -> anyhow::Result<Vec<Outcome>> {
    let mut ids = known(client, customers).await?;
    let mut outcomes: Vec<Outcome> =
        customers.iter().map(|customer| Outcome { line: customer.line, ..Default::default() }).collect();
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
            outcomes[i].refused.entry(result.failure).or_default().extend(result.invalid_fields);
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
                let fields = result.invalid_fields.into_iter().map(|field| format!("contact_points[{i}] {field}"));
                outcome.refused.entry(result.failure).or_default().extend(fields);
            }
        }
    }
    Ok(outcomes)
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
            results.extend(retry(|| call(batch.clone())).await.map_err(crate::show::failed)?);
            (batch, bytes) = (Vec::new(), 0);
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
