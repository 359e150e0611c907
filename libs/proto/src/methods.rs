use std::{collections::HashMap, sync::LazyLock};

use prost::Message;
use prost_types::FileDescriptorSet;

/// Of all RPCs with one request and one reply the only one whose every call counts: a try at a password.
const COUNTED: &str = "clientele.profile.v1.ProfileService/VerifyPassword";

/// What a server answers besides the contract, and whether it has one request and one reply.
const COMMON: [(&str, bool); 4] = [
    ("/grpc.health.v1.Health/Check", true),
    ("/grpc.health.v1.Health/Watch", false),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", false),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", false),
];

/// All RPCs by their paths, which live as long as the process.
static RPCS: LazyLock<HashMap<&'static str, Rpc>> = LazyLock::new(|| {
    let set = FileDescriptorSet::decode(crate::DESCRIPTOR_SET).expect("our own descriptor set");
    let mut rpcs: HashMap<_, _> = COMMON.map(|(path, is_unary)| (path, Rpc { name: &path[1..], is_unary })).into();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                let path: &str = format!("/{}.{}/{}", file.package(), service.name(), method.name()).leak();
                let is_unary = !method.client_streaming() && !method.server_streaming();
                rpcs.insert(path, Rpc { name: &path[1..], is_unary });
            }
        }
    }
    rpcs
});

/// An RPC, as far as one must know it to carry its calls.
#[derive(Clone, Copy, Debug)]
pub struct Rpc {
    /// Its full name, `clientele.customer.v1.CustomerService/GetCustomer`, as metrics and traces have it. `_OTHER` for
    /// all that nobody knows: anyone could make up as many names as a process has room for.
    pub name: &'static str,
    /// Whether it has one request and one reply.
    pub is_unary: bool,
}

impl Rpc {
    /// The one at a path.
    pub fn at(path: &str) -> Self {
        RPCS.get(path).copied().unwrap_or(Self { name: "_OTHER", is_unary: false })
    }

    /// Whether it may be called again when its answer was lost: a read by nature, a write by its `request_id` or natural
    /// key. What streams may not.
    pub fn is_repeatable(self) -> bool {
        self.is_unary && self.name != COUNTED
    }
}
