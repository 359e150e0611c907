use std::{collections::HashMap, sync::LazyLock};

use prost::Message;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};

/// Of all RPCs with one request and one reply the only one whose every call counts: a try at a password.
const COUNTED: &str = "/clientele.profile.v1.ProfileService/VerifyPassword";

/// The paths of all RPCs, and whether each has one request and one reply.
static METHODS: LazyLock<HashMap<String, bool>> = LazyLock::new(|| {
    let set = FileDescriptorSet::decode(crate::DESCRIPTOR_SET).expect("our own descriptor set");
    let health = [("/grpc.health.v1.Health/Check", true), ("/grpc.health.v1.Health/Watch", false)];
    let mut methods: HashMap<String, bool> = health.map(|(path, unary)| (path.to_owned(), unary)).into();
    for file in &set.file {
        for service in &file.service {
            let method = |m: &MethodDescriptorProto| {
                let path = format!("/{}.{}/{}", file.package(), service.name(), m.name());
                (path, !m.client_streaming() && !m.server_streaming())
            };
            methods.extend(service.method.iter().map(method));
        }
    }
    methods
});

/// Whether there is an RPC at this path.
pub fn is_known(path: &str) -> bool {
    METHODS.contains_key(path)
}

/// Whether the RPC at this path has one request and one reply.
pub fn is_unary(path: &str) -> bool {
    METHODS.get(path) == Some(&true)
}

/// Whether the RPC at this path may be called again when its answer was lost: a read by nature, a write by its
/// `request_id` or natural key. What streams is not.
pub fn is_repeatable(path: &str) -> bool {
    path != COUNTED && is_unary(path)
}
