//! How to address a customer. What a channel leads to and when is decided here, purely; whether it is allowed is
//! consent's to say, and no answer means no.

use chrono::{DateTime, TimeDelta, Timelike, Utc};
use proto::{
    consent::v1::ConsentChannel,
    contact::v1::{Channel, ContactPoint, ContactPreferences, ContactSection, DeliverabilityState},
    customer::v1::ChannelObstacle,
};

/// A channel in the order of preference: where it leads, or what stands in its way.
pub type Way = (Channel, Result<String, ChannelObstacle>);

const CHANNELS: [Channel; 4] = [Channel::Email, Channel::Sms, Channel::Phone, Channel::Post];

/// All channels in the order of the customer's preference.
pub fn ways(contact: &ContactSection, zone: &str, at: DateTime<Utc>) -> Vec<Way> {
    let preferred = contact.preferences.iter().flat_map(ContactPreferences::channels);
    let mut order: Vec<Channel> = preferred.collect();
    order.extend(CHANNELS.into_iter().filter(|channel| !order.contains(channel)).collect::<Vec<_>>());
    let quiet = quiet_until(contact, zone, at).is_some();
    let way = |channel: Channel| {
        let place = place(contact, channel);
        let heard = channel != Channel::Post;
        (channel, if quiet && heard && place.is_ok() { Err(ChannelObstacle::QuietHours) } else { place })
    };
    order.into_iter().map(way).collect()
}

/// When the quiet hours end, if it is quiet: by the clocks where the customer is, or by UTC.
pub fn quiet_until(contact: &ContactSection, zone: &str, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let preferences = contact.preferences.as_ref()?;
    let (from, until) = (preferences.quiet_from_minute?, preferences.quiet_until_minute?);
    let zone: chrono_tz::Tz = zone.parse().unwrap_or(chrono_tz::UTC);
    let minute = |at: DateTime<Utc>| {
        let local = at.with_timezone(&zone);
        (local.hour() * 60 + local.minute()) as i32
    };
    let is_quiet = |minute: i32| match from < until {
        true => (from..until).contains(&minute),
        false => minute >= from || minute < until,
    };
    if !is_quiet(minute(at)) {
        return None;
    }
    // Minute by minute, since clocks may be put forward or back on the way.
    let start = at.with_second(0).and_then(|at| at.with_nanosecond(0)).unwrap_or(at);
    (1..=26 * 60).map(|minutes| start + TimeDelta::minutes(minutes)).find(|at| !is_quiet(minute(*at)))
}

/// The contact point of a channel: the primary one unless it cannot be reached, then the next that can.
fn place(contact: &ContactSection, channel: Channel) -> Result<String, ChannelObstacle> {
    let serves = |point: &&ContactPoint| match channel {
        Channel::Email => point.email.is_some(),
        Channel::Sms | Channel::Phone => point.phone.is_some(),
        Channel::Post => point.postal_address.is_some(),
        Channel::Unspecified => false,
    };
    let reachable = |point: &&ContactPoint| {
        let state = point.deliverability.as_ref().map_or(DeliverabilityState::Unspecified, |known| known.state());
        use DeliverabilityState::{Complained, Unreachable, Unsubscribed};
        !matches!(state, Complained | Unreachable | Unsubscribed)
    };
    let points: Vec<&ContactPoint> = contact.contact_points.iter().filter(serves).collect();
    if points.is_empty() {
        return Err(ChannelObstacle::NoContactPoint);
    }
    let found = points.into_iter().find(reachable).ok_or(ChannelObstacle::NotDeliverable)?;
    Ok(found.contact_point_id.clone())
}

/// The channel as consent knows it.
pub fn in_consent(channel: Channel) -> ConsentChannel {
    match channel {
        Channel::Email => ConsentChannel::Email,
        Channel::Sms => ConsentChannel::Sms,
        Channel::Phone => ConsentChannel::Phone,
        Channel::Post => ConsentChannel::Post,
        Channel::Unspecified => ConsentChannel::Unspecified,
    }
}

#[cfg(test)]
mod tests {
    use proto::contact::v1::{Deliverability, EmailAddress, PhoneNumber};

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn quiet(from: i32, until: i32) -> ContactSection {
        let preferences =
            ContactPreferences { quiet_from_minute: Some(from), quiet_until_minute: Some(until), ..Default::default() };
        ContactSection { preferences: Some(preferences), ..Default::default() }
    }

    #[test]
    fn quiet_hours_are_by_the_customers_clocks() {
        let night = quiet(22 * 60, 7 * 60);
        for (zone, now, until) in [
            ("Asia/Vladivostok", "2026-06-15T13:00:00Z", Some("2026-06-15T21:00:00Z")),
            ("Asia/Vladivostok", "2026-06-15T21:00:00Z", None),
            ("", "2026-06-15T22:00:30Z", Some("2026-06-16T07:00:00Z")),
            ("", "2026-06-15T06:59:59Z", Some("2026-06-15T07:00:00Z")),
            ("", "2026-06-15T12:00:00Z", None),
            // The night in which clocks are put back is an hour longer.
            ("Europe/Berlin", "2026-10-24T20:00:00Z", Some("2026-10-25T06:00:00Z")),
        ] {
            assert_eq!(quiet_until(&night, zone, at(now)), until.map(at), "{zone} {now}");
        }
        let noon = quiet(12 * 60, 13 * 60);
        assert_eq!(quiet_until(&noon, "", at("2026-06-15T12:30:00Z")), Some(at("2026-06-15T13:00:00Z")));
        assert_eq!(quiet_until(&noon, "", at("2026-06-15T13:00:00Z")), None);
        assert_eq!(quiet_until(&ContactSection::default(), "", at("2026-06-15T13:00:00Z")), None);
    }

    #[test]
    fn the_first_way_that_leads_somewhere() {
        let point = |id: &str, state: DeliverabilityState| ContactPoint {
            contact_point_id: id.into(),
            deliverability: Some(Deliverability { state: state.into(), ..Default::default() }),
            ..Default::default()
        };
        let email = |id, state| ContactPoint { email: Some(EmailAddress::default()), ..point(id, state) };
        let phone = |id, state| ContactPoint { phone: Some(PhoneNumber::default()), ..point(id, state) };
        let contact = ContactSection {
            contact_points: vec![
                email("gone", DeliverabilityState::Unreachable),
                phone("spam", DeliverabilityState::Complained),
                email("good", DeliverabilityState::SoftBouncing),
            ],
            preferences: Some(ContactPreferences { channels: vec![Channel::Sms.into()], ..Default::default() }),
            ..Default::default()
        };
        let found = ways(&contact, "", at("2026-06-15T12:00:00Z"));
        let expected = [
            (Channel::Sms, Err(ChannelObstacle::NotDeliverable)),
            (Channel::Email, Ok("good".to_owned())),
            (Channel::Phone, Err(ChannelObstacle::NotDeliverable)),
            (Channel::Post, Err(ChannelObstacle::NoContactPoint)),
        ];
        assert!(found == expected);
    }
}
