//! The heart: a customer's view. Sections that are here already come from memory, the next from
//! Redis, and the rest from their owners, all at the same time and within what is left of the
//! caller's time; what does not come back is named, and the rest is the answer. An encoded section is
//! put behind the others as it is and never decoded.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use access::Call;
use cache::{Entry, Held};
use chrono::Utc;
use error::Failure;
use prost::{Message, bytes::Bytes, encoding};
use proto::{
    customer::v1::{Customer, SectionName, SectionSource, SectionState, UnavailableSection},
    section::v1::Section,
};
use tonic::{Code, Response, Status};
use uuid::Uuid;

use crate::{
    reason,
    request::SECTIONS,
    sections::{Demands, Sections},
};

/// What the gateway keeps of the caller's time, at most, to put the answer together and send it.
const MARGIN: Duration = Duration::from_millis(20);

/// A section and where it was found, or the name of the reason why it is missing.
pub type Part = Result<(Arc<Entry>, SectionSource), Cow<'static, str>>;

/// Reads customers, each encoded and with a result of its own, in the order of the ids.
pub async fn read(
    sections: &Sections,
    call: &Call,
    customers: &[Uuid],
    wanted: &[SectionName],
    demands: &Demands,
) -> Vec<Result<Bytes, Failure>> {
    let (now, time) = (Instant::now(), Utc::now());
    let all = wanted.len() == SECTIONS.len();
    let known = |customer| sections.whole(customer, demands, now, time).map(|held| together(customer, &held));
    let views: Vec<_> = customers.iter().map(|customer| all.then(|| known(*customer)).flatten()).collect();
    let left: Vec<Uuid> =
        customers.iter().zip(&views).filter(|(_, view)| view.is_none()).map(|(customer, _)| *customer).collect();
    if left.is_empty() {
        return views.into_iter().flatten().collect();
    }
    // Profile is always asked, since it alone knows whether a customer exists.
    let profile = (!wanted.contains(&SectionName::Profile)).then_some(SectionName::Profile);
    let asked: Vec<SectionName> = profile.into_iter().chain(wanted.iter().copied()).collect();
    // On the heap, so that a call which finds everything in memory does not carry the room for this around.
    let parts = Box::pin(sections.get(call, &left, &asked, demands)).await;
    let compose = |(customer, parts): (&Uuid, Vec<Part>)| compose(customer, wanted, asked.iter().copied().zip(parts));
    let mut composed = left.iter().zip(parts).map(compose);
    views.into_iter().filter_map(|view| view.or_else(|| composed.next())).collect()
}

/// The view of a customer of whom memory holds everything: put together once, then as it is.
fn together(customer: Uuid, held: &Held) -> Result<Bytes, Failure> {
    if let Some(view) = held.view.get() {
        return Ok(view.clone());
    }
    let entries = held.sections.iter().flatten().map(|entry| Ok((entry.clone(), SectionSource::Memory)));
    let names = SECTIONS.into_iter().map(|(_, name)| name);
    let view = compose(&customer, &SECTIONS.map(|(_, name)| name), names.zip(entries))?;
    Ok(held.view.get_or_init(|| view).clone())
}

/// Asks an owner within what is left of the caller's time, less a margin in which the caller gets
/// its answer without this owner's part. A failure is a reason's name.
pub async fn in_time<T>(call: &Call, ask: impl AsyncFnOnce(&Call) -> Result<Response<T>, Status>) -> Result<T, String> {
    let left = time_left(call);
    let call = Call { deadline: Instant::now() + left, ..call.clone() };
    match tokio::time::timeout(left, ask(&call)).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) => Err(reason_of(&status)),
        Err(_) => Err(reason::DEADLINE_EXCEEDED.name.to_owned()),
    }
}

/// What is left of the caller's time, less the margin.
pub fn time_left(call: &Call) -> Duration {
    let left = call.deadline.saturating_duration_since(Instant::now());
    left - MARGIN.min(left / 5)
}

/// The owner's own reason; a status without one is the transport's.
pub fn reason_of(status: &Status) -> String {
    error::reason_of(status).unwrap_or_else(|| match status.code() {
        Code::DeadlineExceeded | Code::Cancelled => reason::DEADLINE_EXCEEDED.name.to_owned(),
        _ => reason::SERVICE_UNAVAILABLE.name.to_owned(),
    })
}

/// Puts a customer's sections one behind the other.
fn compose(
    customer: &Uuid,
    wanted: &[SectionName],
    parts: impl Iterator<Item = (SectionName, Part)>,
) -> Result<Bytes, Failure> {
    let mut view = Vec::with_capacity(2048);
    encoding::string::encode(1, &customer.to_string(), &mut view);
    let mut rest = Customer::default();
    for (name, part) in parts {
        if name == SectionName::Profile && part.as_ref().is_ok_and(|(entry, _)| entry.section.version == 0) {
            return Err(reason::CUSTOMER_NOT_FOUND.into());
        }
        if name == SectionName::Profile && part.as_ref().is_err_and(|name| name == reason::CUSTOMER_ERASED.name) {
            return Err(reason::CUSTOMER_ERASED.into());
        }
        if wanted.contains(&name) {
            match &part {
                Ok((entry, source)) => add(&mut view, &mut rest, name, &entry.section, *source),
                Err(reason) => miss(&mut rest, name, reason),
            }
        }
    }
    rest.encode(&mut view).expect("a vector has room");
    Ok(view.into())
}

/// One section alone, as a customer.
pub fn alone(name: SectionName, section: &Section) -> Customer {
    let (mut view, mut rest) = (Vec::new(), Customer::default());
    encoding::string::encode(1, &section.customer_id, &mut view);
    match section.failure.as_str() {
        "" => add(&mut view, &mut rest, name, section, SectionSource::Database),
        reason => miss(&mut rest, name, reason),
    }
    rest.encode(&mut view).expect("a vector has room");
    Customer::decode(view.as_slice()).unwrap_or_default()
}

fn add(view: &mut Vec<u8>, rest: &mut Customer, name: SectionName, section: &Section, source: SectionSource) {
    // The fields of a customer are numbered like the sections, behind the customer's id.
    encoding::bytes::encode(name as u32 + 1, &section.body, view);
    rest.section_states.push(SectionState {
        section: name.into(),
        version: section.version,
        as_of: section.as_of,
        valid_until: section.valid_until,
        source: source.into(),
    });
}

fn miss(rest: &mut Customer, name: SectionName, reason: &str) {
    rest.unavailable.push(UnavailableSection { section: name.into(), reason: reason.to_owned() });
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;
    use proto::loyalty::v1::LoyaltySection;

    use super::*;

    const ALL: [SectionName; 2] = [SectionName::Profile, SectionName::Loyalty];

    fn part(version: i64) -> Part {
        let body = LoyaltySection { total_size: 3, ..Default::default() }.encode_to_vec().into();
        let section = Section { version, body, ..Default::default() };
        Ok((Arc::new(Entry { section, life: [0; 8], read: Instant::now() }), SectionSource::Cache))
    }

    fn composed(wanted: &[SectionName], parts: [(SectionName, Part); 2]) -> Result<Customer, Failure> {
        compose(&Uuid::nil(), wanted, parts.into_iter()).map(|view| Customer::decode(view).unwrap())
    }

    #[test]
    fn a_section_that_is_missing_is_named_and_the_rest_is_there() {
        let parts = [(SectionName::Profile, Err("SERVICE_UNAVAILABLE".into())), (SectionName::Loyalty, part(3))];
        let customer = composed(&ALL, parts).unwrap();
        assert!(customer.profile.is_none());
        assert_eq!(customer.loyalty.unwrap().total_size, 3);
        assert_eq!(customer.unavailable[0].reason, "SERVICE_UNAVAILABLE");
        assert_eq!(
            (customer.section_states[0].version, customer.section_states[0].source()),
            (3, SectionSource::Cache)
        );
    }

    #[test]
    fn nobody_is_found_whom_profile_does_not_know() {
        let parts = [(SectionName::Profile, part(0)), (SectionName::Loyalty, part(1))];
        let failure = composed(&[SectionName::Loyalty], parts).err().unwrap();
        assert_eq!(failure.reason(), reason::CUSTOMER_NOT_FOUND);
    }

    #[test]
    fn a_customer_is_not_denied_because_profile_is_silent() {
        let parts = [(SectionName::Profile, Err("DEADLINE_EXCEEDED".into())), (SectionName::Loyalty, part(1))];
        let customer = composed(&[SectionName::Loyalty], parts).unwrap();
        assert!(customer.loyalty.is_some() && customer.unavailable.is_empty());
    }

    #[test]
    fn the_fields_of_a_customer_are_numbered_like_the_sections() {
        let pool = DescriptorPool::decode(proto::DESCRIPTOR_SET).unwrap();
        let customer = pool.get_message_by_name("clientele.customer.v1.Customer").unwrap();
        for (field, name) in crate::request::SECTIONS {
            assert_eq!(customer.get_field_by_name(field).unwrap().number(), name as u32 + 1);
        }
    }
}
