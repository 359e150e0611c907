//! Messages as JSON (the protobuf JSON mapping), by the contract's own descriptors.

use std::sync::LazyLock;

use anyhow::Context;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(proto::DESCRIPTOR_SET).expect("the build wrote this set"));

/// A message with the names of its fields as in the proto.
pub fn to_json(name: &str, message: &impl Message) -> anyhow::Result<Value> {
    let descriptor = POOL.get_message_by_name(name).with_context(|| format!("there is no message {name}"))?;
    let message = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?;
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(true);
    Ok(message.serialize_with_options(serde_json::value::Serializer, &options)?)
}

/// A message from JSON; fields that the contract does not know are refused.
pub fn from_json<T: Message + Default>(name: &str, json: Value) -> anyhow::Result<T> {
    let descriptor = POOL.get_message_by_name(name).with_context(|| format!("there is no message {name}"))?;
    let message = DynamicMessage::deserialize(descriptor, json)?;
    Ok(T::decode(message.encode_to_vec().as_slice())?)
}
