//! Who may do what in Redis. Each process has a user of its own, as it has a role of its own in Postgres:
//! a service reaches the keys of its own sections, the gateway reads all sections and writes none.

use std::{collections::BTreeMap, fmt::Write};

use anyhow::Context;
use aws_lc_rs::digest::{SHA256, digest};

/// What every process needs to connect, to stay connected and to find its way in a cluster.
const CONNECT: &str = "+hello +ping +cluster|slots +cluster|info";

/// An ACL file of Redis 7: a user for each name with its password, and no default user.
pub fn file(passwords: &BTreeMap<String, String>) -> String {
    let mut file = "user default off\n".to_owned();
    for (name, password) in passwords {
        let hash: String = digest(&SHA256, password.as_bytes()).as_ref().iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("a string takes everything");
            hex
        });
        let allowed = match name.as_str() {
            gateway::NAME => "%R~clientele:section:* +mget +client|tracking".to_owned(),
            service => format!("~clientele:*:{service}:* +mget +eval +evalsha +script|load +get +set +del +getrange"),
        };
        writeln!(file, "user {name} on #{hash} resetchannels -@all {CONNECT} {allowed}").expect("as above");
    }
    file
}

/// The URL of Redis with a user in it.
pub fn user_url(url: &str, name: &str, password: &str) -> anyhow::Result<String> {
    let mut url: reqwest::Url = url.parse().context("the URL of Redis is malformed")?;
    url.set_username(name).ok().context("the URL of Redis takes no user")?;
    url.set_password(Some(password)).ok().context("the URL of Redis takes no password")?;
    Ok(url.into())
}
