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

/// When the quiet hours end, if it is quiet.
pub fn quiet_until(contact: &ContactSection, zone: &str, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let quiet = Hours::quiet(contact, zone)?;
    if quiet.hold(at) { minutes_after(at).find(|at| !quiet.hold(*at)) } else { None }
}

/// When the preferred hours that are not quiet begin next, if it is none of them.
pub fn preferred_from(contact: &ContactSection, zone: &str, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let (preferred, quiet) = (Hours::preferred(contact, zone)?, Hours::quiet(contact, zone));
    let is_welcome = |at| preferred.hold(at) && !quiet.as_ref().is_some_and(|quiet| quiet.hold(at));
    if is_welcome(at) { None } else { minutes_after(at).find(|at| is_welcome(*at)) }
}

/// Hours of each day, by the clocks where the customer is, or by UTC.
struct Hours {
    from: u32,
    until: u32,
    zone: chrono_tz::Tz,
}

impl Hours {
    fn quiet(contact: &ContactSection, zone: &str) -> Option<Self> {
        let preferences = contact.preferences.as_ref()?;
        Self::new(preferences.quiet_from_minute?, preferences.quiet_until_minute?, zone)
    }

    fn preferred(contact: &ContactSection, zone: &str) -> Option<Self> {
        let preferences = contact.preferences.as_ref()?;
        Self::new(preferences.preferred_from_minute?, preferences.preferred_until_minute?, zone)
    }

    fn new(from: i32, until: i32, zone: &str) -> Option<Self> {
        let zone = zone.parse().unwrap_or(chrono_tz::UTC);
        Some(Self { from: from.try_into().ok()?, until: until.try_into().ok()?, zone })
    }

    fn hold(&self, at: DateTime<Utc>) -> bool {
        let local = at.with_timezone(&self.zone);
        let minute = local.hour() * 60 + local.minute();
        match self.from < self.until {
            true => (self.from..self.until).contains(&minute),
            false => minute >= self.from || minute < self.until,
        }
    }
}

/// The minutes of a day and of the hours by which clocks may be put back, one by one, since they may be put forward or back
/// on the way.
fn minutes_after(at: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
    let start = at.with_second(0).and_then(|at| at.with_nanosecond(0)).unwrap_or(at);
    (1..=26 * 60).map(move |minutes| start + TimeDelta::minutes(minutes))
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
    fn preferred_hours_that_are_quiet_are_none() {
        let mut evening = quiet(20 * 60, 7 * 60);
        let preferences = evening.preferences.as_mut().unwrap();
        (preferences.preferred_from_minute, preferences.preferred_until_minute) = (Some(18 * 60), Some(21 * 60));
        for (zone, now, from) in [
            ("Europe/Berlin", "2026-06-15T10:00:00Z", Some("2026-06-15T16:00:00Z")),
            ("Europe/Berlin", "2026-06-15T16:00:00Z", None),
            ("Europe/Berlin", "2026-06-15T18:30:00Z", Some("2026-06-16T16:00:00Z")),
            // The night in which clocks are put back is an hour longer.
            ("Europe/Berlin", "2026-10-24T18:00:00Z", Some("2026-10-25T17:00:00Z")),
        ] {
            assert_eq!(preferred_from(&evening, zone, at(now)), from.map(at), "{zone} {now}");
        }
        let mut never = quiet(18 * 60, 7 * 60);
        let preferences = never.preferences.as_mut().unwrap();
        (preferences.preferred_from_minute, preferences.preferred_until_minute) = (Some(19 * 60), Some(20 * 60));
        assert_eq!(preferred_from(&never, "", at("2026-06-15T12:00:00Z")), None);
        assert_eq!(preferred_from(&quiet(0, 1), "", at("2026-06-15T12:00:00Z")), None);
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
