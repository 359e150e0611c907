use std::{collections::HashSet, sync::LazyLock};

use prost::Message;
use prost_types::FileDescriptorSet;

/// Of all RPCs with one request and one reply the only one whose every call counts: a try at a password.
const COUNTED: &str = "/clientele.profile.v1.ProfileService/VerifyPassword";

/// The paths of the RPCs with one request and one reply.
static UNARY: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let set = FileDescriptorSet::decode(crate::DESCRIPTOR_SET).expect("our own descriptor set");
    let mut paths = HashSet::from(["/grpc.health.v1.Health/Check".to_owned()]);
    for file in &set.file {
        for service in &file.service {
            let unary = service.method.iter().filter(|m| !m.client_streaming() && !m.server_streaming());
            paths.extend(unary.map(|m| format!("/{}.{}/{}", file.package(), service.name(), m.name())));
        }
    }
    paths
});

/// Whether the RPC at this path has one request and one reply.
pub fn is_unary(path: &str) -> bool {
    UNARY.contains(path)
}

/// Whether the RPC at this path may be called again when its answer was lost: a read by nature, a write by its
/// `request_id` or natural key. What streams is not.
pub fn is_repeatable(path: &str) -> bool {
    path != COUNTED && is_unary(path)
}
