//! How to address a customer for a purpose. What each channel leads to is [`channel`]'s to say; consent is asked whether
//! it is allowed, and interaction how often it was done. No answer means no.

use access::Call;
use chrono::{DateTime, TimeDelta, Utc};
use error::Failure;
use prost::Message;
use prost_types::Timestamp;
use proto::{
    consent::v1::{CheckConsentRequest, consent_service_client::ConsentServiceClient},
    contact::v1::{Channel, ContactSection},
    customer::v1::*,
    interaction::v1::{CountOutboundInteractionsRequest, interaction_service_client::InteractionServiceClient},
    r#type::v1::Consistency,
};
use tonic::Status;
use uuid::Uuid;

use crate::{channel, peers::told, reason, sections::Demands, service::Service, view};

/// Chooses a channel.
pub async fn choose(
    service: &Service,
    call: &Call,
    customer: Uuid,
    message: &ChooseChannelRequest,
) -> Result<ChooseChannelResponse, Status> {
    let at = message.at_time.and_then(|at| DateTime::from_timestamp(at.seconds, at.nanos as u32));
    let at = at.unwrap_or_else(Utc::now);
    let wanted = [SectionName::Profile, SectionName::Contact];
    let demands = Demands::new(Some(&fully_consistent()))?;
    let view = view::read(&service.sections, call, &[customer], &wanted, &demands).await.remove(0)?;
    let customer = Customer::decode(view).map_err(|_| Failure::from(reason::INTERNAL_ERROR))?;
    if !customer.unavailable.is_empty() {
        return Err(Failure::from(reason::SERVICE_UNAVAILABLE).into());
    }
    let contact = customer.contact.unwrap_or_default();
    let zone = customer.profile.and_then(|section| section.profile).unwrap_or_default().time_zone;
    let mut reply = ChooseChannelResponse::default();
    let capped_until = capped_until(service, call, message, &contact, at).await?;
    reply.capped_until_time = capped_until.map(timestamp);
    for (channel, way) in channel::ways(&contact, &zone, at) {
        let obstacle = match way {
            Ok(_) if !allowed(service, call, message, channel).await? => ChannelObstacle::NotAllowed,
            Ok(_) if capped_until.is_some() => ChannelObstacle::FrequencyCap,
            Ok(place) => {
                reply.set_channel(channel);
                reply.contact_point_id = place;
                break;
            }
            Err(obstacle) => obstacle,
        };
        reply.passed.push(PassedChannel { channel: channel.into(), obstacle: obstacle.into() });
    }
    reply.preferred_time = channel::preferred_from(&contact, &zone, at).map(timestamp);
    let waits = reply.passed.iter().any(|passed| passed.obstacle() == ChannelObstacle::QuietHours);
    reply.quiet_until_time = channel::quiet_until(&contact, &zone, at).filter(|_| waits).map(timestamp);
    Ok(reply)
}

/// Whether consent allows to address the customer by a channel.
async fn allowed(
    service: &Service,
    call: &Call,
    message: &ChooseChannelRequest,
    channel: Channel,
) -> Result<bool, Status> {
    let peer = service.peers.peer(SectionName::Consent)?;
    let request = CheckConsentRequest {
        customer_id: message.customer_id.clone(),
        purpose_id: message.purpose_id.clone(),
        channel: channel::in_consent(channel).into(),
        at: message.at_time,
    };
    let checked = ConsentServiceClient::new(peer.channel.clone()).check_consent(peer.request(call, request)).await;
    Ok(checked.map_err(told)?.into_inner().allowed)
}

/// When the customer may be addressed again who was addressed for the purpose as often as wished: when the first of the
/// last so many times lies a whole window back.
async fn capped_until(
    service: &Service,
    call: &Call,
    message: &ChooseChannelRequest,
    contact: &ContactSection,
    at: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, Status> {
    let caps = contact.preferences.iter().flat_map(|preferences| &preferences.frequency_caps);
    let Some(cap) = caps.into_iter().find(|cap| cap.purpose_id == message.purpose_id) else { return Ok(None) };
    let window = TimeDelta::days(cap.days.into());
    let peer = service.peers.peer(SectionName::Interaction)?;
    let request = CountOutboundInteractionsRequest {
        customer_id: message.customer_id.clone(),
        purpose_id: message.purpose_id.clone(),
        after_time: Some(timestamp(at - window)),
        // What is recorded by a clock that is ahead counts too, unless another time is asked about.
        until_time: Some(timestamp(if message.at_time.is_none() { at + TimeDelta::minutes(1) } else { at })),
        limit: cap.max_count,
        consistency: Some(fully_consistent()),
    };
    let mut client = InteractionServiceClient::new(peer.channel.clone());
    let counted = client.count_outbound_interactions(peer.request(call, request)).await.map_err(told)?.into_inner();
    let first = counted.first_time.and_then(|first| DateTime::from_timestamp(first.seconds, first.nanos as u32));
    Ok(first.filter(|_| counted.count >= cap.max_count).map(|first| first + window))
}

fn fully_consistent() -> Consistency {
    Consistency { fully_consistent: true, ..Default::default() }
}

/// To the microsecond, as the databases keep times.
fn timestamp(at: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: at.timestamp(), nanos: at.timestamp_subsec_micros() as i32 * 1000 }
}
