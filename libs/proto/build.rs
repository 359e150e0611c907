//! Compiles the contract: messages, services, validation rules and the descriptor set.

use std::{env, error::Error, fs, path::PathBuf};

use protox::file::{ChainFileResolver, DescriptorSetFileResolver, GoogleFileResolver, IncludeFileResolver};

const FILES: [&str; 27] = [
    "clientele/type/v1/category.proto",
    "clientele/type/v1/consistency.proto",
    "clientele/type/v1/value.proto",
    "clientele/section/v1/section.proto",
    "clientele/feed/v1/feed.proto",
    "clientele/keys/v1/keys.proto",
    "clientele/customer/v1/customer.proto",
    "clientele/profile/v1/account.proto",
    "clientele/profile/v1/device.proto",
    "clientele/profile/v1/household.proto",
    "clientele/profile/v1/provenance.proto",
    "clientele/profile/v1/fact.proto",
    "clientele/profile/v1/identity.proto",
    "clientele/profile/v1/profile.proto",
    "clientele/contact/v1/contact.proto",
    "clientele/order_history/v1/order.proto",
    "clientele/order_history/v1/purchase.proto",
    "clientele/interaction/v1/interaction.proto",
    "clientele/loyalty/v1/loyalty.proto",
    "clientele/consent/v1/consent.proto",
    "clientele/insight/v1/tier.proto",
    "clientele/insight/v1/lifetime.proto",
    "clientele/insight/v1/recommendation.proto",
    "clientele/insight/v1/affinity.proto",
    "clientele/insight/v1/demand.proto",
    "clientele/insight/v1/base.proto",
    "clientele/insight/v1/insight.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    // tonic-prost-build does not print this for files that protox has compiled.
    println!("cargo:rerun-if-changed={}", root.display());

    let mut resolver = ChainFileResolver::new();
    resolver.add(IncludeFileResolver::new(root));
    resolver.add(GoogleFileResolver::new());
    // buf/validate/validate.proto travels inside the crate that checks its rules.
    resolver
        .add(DescriptorSetFileResolver::decode(prost_protovalidate_types::DESCRIPTOR_POOL.encode_to_vec().as_slice())?);
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(FILES)?;

    // These bytes keep custom options, which `prost_types::FileDescriptorSet` would drop.
    let descriptor_set = compiler.encode_file_descriptor_set();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("clientele.binpb"), &descriptor_set)?;

    prost_protovalidate_build::Builder::new()
        .file_descriptor_set_bytes(descriptor_set)
        .fail_on_runtime_only(true)
        .compile()?;

    tonic_prost_build::configure()
        .codec_path("crate::Codec")
        .bytes(".clientele.section.v1")
        // A message may hold personal data, so none can be printed by accident.
        .skip_debug(["."])
        .enum_attribute(".", "#[derive(Debug)]")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
