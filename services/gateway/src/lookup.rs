use access::Call;
use futures_util::future::join_all;
use proto::{
    section::v1::{Resolution, ResolveIdentifiersRequest},
    r#type::v1::{Consistency, Identifier},
};

use crate::{
    peers::{Owner, Peers},
    view::in_time,
};

/// Finds the customers behind identifiers, one call per owner at the same time. An owner that does
/// not answer fails its own identifiers alone.
pub async fn resolve(
    peers: &Peers,
    call: &Call,
    identifiers: &[Identifier],
    consistency: Option<&Consistency>,
) -> Vec<Resolution> {
    let mut found = vec![Resolution::default(); identifiers.len()];
    let asked = peers.all().map(|owner| {
        let own = |identifier: &Identifier| peers.owner_of(identifier).is_some_and(|o| o.section == owner.section);
        let places: Vec<usize> =
            identifiers.iter().enumerate().filter(|(_, identifier)| own(identifier)).map(|(i, _)| i).collect();
        let identifiers = places.iter().map(|i| identifiers[*i].clone()).collect();
        let message = ResolveIdentifiersRequest { identifiers, consistency: consistency.cloned() };
        async move { (places, ask(owner, call, message).await) }
    });
    for (places, resolutions) in join_all(asked).await {
        places.into_iter().zip(resolutions).for_each(|(i, resolution)| found[i] = resolution);
    }
    found
}

async fn ask(owner: &Owner, call: &Call, message: ResolveIdentifiersRequest) -> Vec<Resolution> {
    let asked = message.identifiers.len();
    if asked == 0 {
        return Vec::new();
    }
    let mut sections = owner.peer.sections.clone();
    match in_time(call, async |call| sections.resolve_identifiers(owner.peer.request(call, message)).await).await {
        Ok(reply) => reply.resolutions,
        Err(failure) => vec![Resolution { failure, ..Default::default() }; asked],
    }
}
