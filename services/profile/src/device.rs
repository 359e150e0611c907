//! What a User-Agent and an address tell of a device, and no more of it than is kept. Pure.

use std::net::IpAddr;

use proto::profile::v1::{Device, DeviceType};
use woothee::parser::Parser;

/// The device as it is told, with what its User-Agent says, and the network of its address.
pub fn read(told: Device, user_agent: &str, ip_address: &str) -> Device {
    let mut device = Device {
        r#type: 0,
        operating_system: String::new(),
        operating_system_version: String::new(),
        browser: String::new(),
        browser_version: String::new(),
        network: network(ip_address),
        first_seen_time: None,
        last_seen_time: None,
        ..told
    };
    if let Some(said) = Parser::new().parse(user_agent) {
        let known = |text: &str| if text == "UNKNOWN" { String::new() } else { text.to_owned() };
        device.set_type(match said.category {
            "pc" => DeviceType::Computer,
            "smartphone" => DeviceType::Smartphone,
            "mobilephone" => DeviceType::MobilePhone,
            "appliance" => DeviceType::Appliance,
            "crawler" => DeviceType::Crawler,
            _ => DeviceType::Unspecified,
        });
        device.operating_system = known(said.os);
        device.operating_system_version = known(&said.os_version);
        device.browser = known(said.name);
        device.browser_version = known(said.version);
    }
    device
}

/// What a device is known by.
pub fn key(device: &Device) -> Vec<u8> {
    let Device { device_id, r#type, operating_system, browser, .. } = device;
    match device_id.as_str() {
        "" => format!("{type}\n{operating_system}\n{browser}").into_bytes(),
        id => format!("id\n{id}").into_bytes(),
    }
}

/// An address without what leads to one household.
fn network(address: &str) -> String {
    match address.parse() {
        Ok(IpAddr::V4(address)) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        Ok(IpAddr::V6(address)) => match address.to_ipv4_mapped() {
            Some(mapped) => network(&mapped.to_string()),
            None => {
                let [a, b, c, ..] = address.segments();
                format!("{}/48", std::net::Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
            }
        },
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_agent_tells_type_system_and_browser() {
        for (user_agent, r#type, system, browser) in [
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36",
                DeviceType::Computer,
                "Windows 10",
                "Chrome",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Mobile/15E148 Safari/604.1",
                DeviceType::Smartphone,
                "iPhone",
                "Safari",
            ),
            (
                "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
                DeviceType::Crawler,
                "",
                "Googlebot",
            ),
            ("", DeviceType::Unspecified, "", ""),
        ] {
            let device = read(Device::default(), user_agent, "");
            assert_eq!((device.r#type(), device.operating_system.as_str()), (r#type, system), "{user_agent}");
            assert_eq!(device.browser, browser);
        }
    }

    #[test]
    fn of_an_address_the_network_is_kept() {
        for (address, expected) in [
            ("203.0.113.77", "203.0.113.0/24"),
            ("2001:db8:85a3:8d3:1319:8a2e:370:7348", "2001:db8:85a3::/48"),
            ("::ffff:203.0.113.77", "203.0.113.0/24"),
            ("", ""),
        ] {
            assert_eq!(network(address), expected);
        }
    }
}
