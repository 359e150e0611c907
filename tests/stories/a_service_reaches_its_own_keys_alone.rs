use std::process::{Child, Command, Stdio};

use clientele::{Port, acl, suite::Suite};
use proto::customer::v1::SectionSource;
use tests::{Fixture, Installation, get};

/// A Redis that knows a user for each process, and nobody else.
struct Guarded {
    port: Port,
    child: Child,
}

impl Guarded {
    fn cli(&self, user: &str, password: &str, command: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        cli.args(["-p", &self.port.number().to_string(), "--user", user, "--pass", password, "--no-auth-warning"]);
        String::from_utf8_lossy(&cli.args(command).output().unwrap().stdout).into_owned()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn everything_works_with_a_user_for_each_process_and_each_is_kept_to_its_own_keys() {
    let (mut plan, state) = tests::plan().await;
    let users = state.path().join("users.acl");
    // One more, who may look at everything.
    std::fs::write(&users, acl::file(&plan.keys.redis_passwords) + "user watcher on nopass ~* +@all\n").unwrap();
    let port = Port::keep().unwrap();
    let mut redis = Command::new("redis-server");
    redis.args(["--bind", "127.0.0.1", "--port", &port.number().to_string(), "--save", "", "--aclfile"]).arg(&users);
    plan.redis_url = Some(format!("redis://{}", port.address()));
    let guarded = Guarded { port, child: redis.stdout(Stdio::null()).spawn().unwrap() };
    plan.redis_users = true;
    let suite = Suite::start(&plan).await.unwrap();
    let installation = Installation { suite, plan, state };

    let client = installation.client();
    let fixture = Fixture::create(&client).await;
    let watch = |command: &[&str]| guarded.cli("watcher", "x", command);
    let (mut keys, mut tries, mut source) = (String::new(), 0, SectionSource::Database);
    while (keys.lines().count(), source) != (7, SectionSource::Memory) {
        tries += 1;
        assert!(tries < 200, "of seven sections Redis holds {keys:?}, and memory does not");
        let customer = get(&client, &fixture.customer_id, Vec::new()).await.unwrap();
        source = customer.section_states.iter().map(|state| state.source()).max().unwrap();
        keys = watch(&["--scan", "--pattern", "clientele:section:*"]);
    }
    assert_eq!(watch(&["acl", "log"]).trim(), "", "somebody was refused something");

    let passwords = &installation.plan.keys.redis_passwords;
    let ask = |name: &str, command: &[&str]| guarded.cli(name, &passwords[name], command);
    for key in keys.lines() {
        for name in passwords.keys() {
            let own = key.contains(&format!(":{name}:"));
            let reads = !ask(name, &["mget", key]).contains("NOPERM");
            assert_eq!(reads, own || name == gateway::NAME, "{name} reads {key}");
            let writes = !ask(name, &["set", key, "x"]).contains("NOPERM");
            assert_eq!(writes, own, "{name} writes {key}");
        }
    }
    for name in passwords.keys() {
        for command in ["keys *", "flushall", "config get *", "monitor", "acl list", "scan 0"] {
            let refused = ask(name, &command.split(' ').collect::<Vec<_>>());
            assert!(refused.contains("NOPERM"), "{name} may {command}");
        }
    }
    assert!(guarded.cli("default", "", &["ping"]).contains("NOAUTH"));
}
