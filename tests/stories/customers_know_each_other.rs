use client::{Client, request_id};
use proto::profile::v1::*;
use tests::{Installation, reason, violations};

async fn create(client: &Client) -> String {
    let profile = Some(Profile { language: "en".into(), ..Default::default() });
    let request = CreateProfileRequest { request_id: request_id(), profile, ..Default::default() };
    client.profile().create_profile(request).await.unwrap().into_inner().profile.unwrap().customer_id
}

async fn join(
    client: &Client,
    customer_id: &str,
    household_id: &str,
    role: HouseholdRole,
) -> Result<Household, tonic::Status> {
    let (customer_id, household_id) = (customer_id.to_owned(), household_id.to_owned());
    let request = JoinHouseholdRequest { request_id: request_id(), customer_id, household_id, role: role.into() };
    client.profile().join_household(request).await.map(|reply| reply.into_inner().household.unwrap())
}

async fn household(client: &Client, customer_id: &str) -> Option<Household> {
    let request = GetHouseholdRequest { customer_id: customer_id.to_owned(), consistency: None };
    client.profile().get_household(request).await.unwrap().into_inner().household
}

async fn leave(client: &Client, customer_id: &str) -> Result<LeaveHouseholdResponse, tonic::Status> {
    let request = LeaveHouseholdRequest { request_id: request_id(), customer_id: customer_id.to_owned() };
    client.profile().leave_household(request).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_customer_lives_in_one_household() {
    let installation = Installation::start().await;
    let client = installation.client();
    let (ada, ben, eve) = (create(&client).await, create(&client).await, create(&client).await);
    let home = join(&client, &ada, "", HouseholdRole::Head).await.unwrap().household_id;
    join(&client, &ben, &home, HouseholdRole::Child).await.unwrap();
    let joined = join(&client, &ben, &home, HouseholdRole::Partner).await.unwrap();
    let members: Vec<_> = joined.members.iter().map(|m| (m.customer_id.clone(), m.role())).collect();
    assert_eq!(members, [(ada.clone(), HouseholdRole::Head), (ben.clone(), HouseholdRole::Partner)]);
    assert!(household(&client, &ada).await == Some(joined));
    assert!(household(&client, &eve).await.is_none());
    let other = join(&client, &eve, "", HouseholdRole::Head).await.unwrap().household_id;
    let refused = join(&client, &ben, &other, HouseholdRole::Other).await.err().unwrap();
    assert_eq!(reason(&refused), "IN_ANOTHER_HOUSEHOLD");
    assert_eq!(leave(&client, &ben).await.unwrap().household.unwrap().members.len(), 1);
    assert_eq!(reason(&leave(&client, &ben).await.err().unwrap()), "NOT_IN_HOUSEHOLD");
    join(&client, &ben, &other, HouseholdRole::Other).await.unwrap();
    installation.destroy_keys(&eve).await;
    assert_eq!(household(&client, &ben).await.unwrap().members.len(), 1, "who was erased lives nowhere");

    // Many at once do not overfill it.
    let mut many = Vec::new();
    for _ in 0..32 {
        many.push(create(&client).await);
    }
    let joins = many.iter().map(|customer| join(&client, customer, &home, HouseholdRole::Other));
    let joins = futures_util::future::join_all(joins).await;
    assert_eq!(joins.iter().flatten().count(), 29);
    assert!(joins.iter().filter_map(|join| join.as_ref().err()).all(|status| reason(status) == "HOUSEHOLD_FULL"));
}

#[tokio::test]
async fn a_relation_may_be_used_when_both_allow_it() {
    let installation = Installation::start().await;
    let client = installation.client();
    let (ada, eve) = (create(&client).await, create(&client).await);
    let set = async |customer_id: &str, other: &str, kind: RelationKind, permitted: Option<bool>| {
        let relation = Relation {
            other_customer_id: other.to_owned(),
            kind: kind.into(),
            permitted: permitted.unwrap_or_default(),
            ..Default::default()
        };
        let request = SetRelationRequest {
            request_id: request_id(),
            customer_id: customer_id.to_owned(),
            relation: Some(relation),
            removed: permitted.is_none(),
        };
        client.profile().set_relation(request).await
    };
    let list = async |customer_id: &str| {
        let request = ListRelationsRequest { customer_id: customer_id.to_owned(), ..Default::default() };
        let relations = client.profile().list_relations(request).await.unwrap().into_inner().relations;
        relations.iter().map(|r| (r.kind(), r.permitted, r.other_permitted)).collect::<Vec<_>>()
    };
    set(&ada, &eve, RelationKind::Friend, Some(true)).await.unwrap();
    set(&ada, &eve, RelationKind::Referred, Some(false)).await.unwrap();
    assert_eq!(list(&ada).await, [(RelationKind::Friend, true, false), (RelationKind::Referred, false, false)]);
    assert!(list(&eve).await.is_empty(), "she says nothing of her own");
    set(&eve, &ada, RelationKind::Follows, Some(true)).await.unwrap();
    assert_eq!(list(&ada).await[0], (RelationKind::Friend, true, true));
    set(&eve, &ada, RelationKind::Follows, Some(false)).await.unwrap();
    assert_eq!(list(&ada).await[0], (RelationKind::Friend, true, false));
    set(&ada, &eve, RelationKind::Friend, None).await.unwrap();
    set(&ada, &eve, RelationKind::Friend, None).await.unwrap();
    assert_eq!(list(&ada).await.len(), 1);

    // Both at once, many times: nobody waits for the other.
    let both = (0..20).map(|i| {
        let (one, other) = if i % 2 == 0 { (&ada, &eve) } else { (&eve, &ada) };
        set(one, other, RelationKind::Friend, Some(true))
    });
    assert!(futures_util::future::join_all(both).await.iter().all(Result::is_ok));
    // Backends tell what they counted within a second.
    tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    assert_eq!(installation.count(deadlocks).await, 0);

    let own = set(&ada, &ada, RelationKind::Friend, Some(true)).await.err().unwrap();
    assert_eq!(violations(&own), ["relation.other_customer_id"]);
    let nobody = "00000000-0000-4000-8000-000000000000";
    for (one, other) in [(ada.as_str(), nobody), (nobody, ada.as_str())] {
        let failure = set(one, other, RelationKind::Friend, Some(true)).await.err().unwrap();
        assert_eq!(reason(&failure), "CUSTOMER_NOT_FOUND");
    }
    installation.destroy_keys(&eve).await;
    assert!(list(&ada).await.is_empty(), "nobody knows who was erased");
    let failure = set(&ada, &eve, RelationKind::Friend, Some(true)).await.err().unwrap();
    assert_eq!(reason(&failure), "CUSTOMER_NOT_FOUND");
}
