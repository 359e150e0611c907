//! The contract in Rust, generated from `/proto`: messages, clients, servers, validation rules and
//! the descriptor set. Messages have no `Debug`, so that none ends up in a log.

mod codec;
mod composed;
mod methods;

pub use codec::Codec;
pub use composed::Composed;
pub use methods::Rpc;

/// The encoded descriptor set with all options and comments, for reflection and tests.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/clientele.binpb"));

/// The packages of the contract.
#[expect(
    missing_docs,
    clippy::all,
    clippy::allow_attributes,
    reason = "generated; the proto files are its documentation"
)]
pub mod clientele {
    pub mod r#type {
        pub mod v1 {
            tonic::include_proto!("clientele.r#type.v1");
        }
    }
    pub mod section {
        pub mod v1 {
            tonic::include_proto!("clientele.section.v1");
        }
    }
    pub mod feed {
        pub mod v1 {
            tonic::include_proto!("clientele.feed.v1");
        }
    }
    pub mod keys {
        pub mod v1 {
            tonic::include_proto!("clientele.keys.v1");
        }
    }
    pub mod customer {
        pub mod v1 {
            tonic::include_proto!("clientele.customer.v1");
        }
    }
    pub mod profile {
        pub mod v1 {
            tonic::include_proto!("clientele.profile.v1");
        }
    }
    pub mod contact {
        pub mod v1 {
            tonic::include_proto!("clientele.contact.v1");
        }
    }
    pub mod order_history {
        pub mod v1 {
            tonic::include_proto!("clientele.order_history.v1");
        }
    }
    pub mod interaction {
        pub mod v1 {
            tonic::include_proto!("clientele.interaction.v1");
        }
    }
    pub mod loyalty {
        pub mod v1 {
            tonic::include_proto!("clientele.loyalty.v1");
        }
    }
    pub mod consent {
        pub mod v1 {
            tonic::include_proto!("clientele.consent.v1");
        }
    }
    pub mod insight {
        pub mod v1 {
            tonic::include_proto!("clientele.insight.v1");
        }
    }
}

pub use clientele::*;

#[expect(unused_parens, clippy::all, clippy::allow_attributes, reason = "generated")]
mod validate {
    use super::clientele;
    include!(concat!(env!("OUT_DIR"), "/validate_impl.rs"));
}
