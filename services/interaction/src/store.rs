//! The SQL of interactions and visitors. With [`case`](crate::case) this is where sealed columns are
//! sealed and opened.

use std::collections::BTreeSet;

use access::Call;
use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, Utc};
use error::Failure;
use prost::Message;
use proto::interaction::v1::*;
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::json;
use sqlx::types::Json;
use store::{Change, Db, Page, Result, Tx, Written, page_size, sql, time, timestamp, uuid};
use uuid::{Builder, Uuid};
use vault::{Keys, Place, Unreadable, Vault};

use crate::{case, reason, timeline};

#[derive(Clone)]
pub struct Store {
    pub db: Db,
}

/// An interaction about to be recorded.
pub struct NewInteraction {
    pub interaction_id: Uuid,
    pub customer_id: Option<Uuid>,
    pub visitor_hash: Option<Vec<u8>>,
    pub interaction: Interaction,
}

impl NewInteraction {
    /// Whose key seals it.
    fn owner(&self) -> Uuid {
        self.customer_id.unwrap_or_else(|| owner_of(self.visitor_hash.as_deref().unwrap_or_default()))
    }
}

impl Store {
    /// Keeps visitors as they are until the transaction ends, and says who they are: nobody may
    /// link one between our look and our write.
    pub async fn visitors_lock(tx: &mut Tx, visitors: &[Visitor]) -> Result<Vec<(Vec<u8>, Option<Uuid>)>> {
        if visitors.is_empty() {
            return Ok(Vec::new());
        }
        let hashes: Vec<Vec<u8>> = visitors.iter().map(|visitor| hash(tx.vault(), visitor)).collect();
        let distinct: Vec<Vec<u8>> = hashes.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
        let query = sqlx::query!(
            r#"
            insert into interaction.visitors (hash) select hash from unnest($1::bytea[]) as new (hash) order by hash
            on conflict do nothing
            "#,
            &distinct
        );
        sql("insert interaction.visitors", query.execute(tx.sql())).await?;
        let query = sqlx::query!(
            "select hash, customer_id from interaction.visitors where hash = any ($1) order by hash for share",
            &distinct
        );
        let rows = sql("select interaction.visitors", query.fetch_all(tx.sql())).await?;
        let customer = |hash: &Vec<u8>| rows.iter().find(|row| row.hash == *hash).and_then(|row| row.customer_id);
        Ok(hashes.into_iter().map(|hash| (hash.clone(), customer(&hash))).collect())
    }

    pub async fn interactions_insert(tx: &mut Tx, new: &[NewInteraction]) -> Result<()> {
        if new.is_empty() {
            return Ok(());
        }
        // What a visitor did whom nobody knows yet is sealed by a key of the visitor's own.
        tx.own(&new.iter().map(|new| new.owner()).collect::<Vec<_>>()).await?;
        let mut c = Columns::default();
        for new in new {
            c.push(tx.keys(), new)?;
        }
        let query = sqlx::query!(
            r#"
            insert into interaction.interactions (
                interaction_id, customer_id, visitor_hash, occurred_at, channel, direction, topic, agent_id,
                duration_ms, outcome, satisfaction, purpose_id, sealed)
            select * from unnest(
                $1::uuid[], $2::uuid[], $3::bytea[], $4::timestamptz[], $5::integer[], $6::integer[], $7::text[],
                $8::text[], $9::bigint[], $10::text[], $11::integer[], $12::text[], $13::bytea[])
            "#,
            &c.interaction_id,
            &c.customer_id as &[Option<Uuid>],
            &c.visitor_hash as &[Option<Vec<u8>>],
            &c.occurred_at,
            &c.channel,
            &c.direction,
            &c.topic,
            &c.agent_id,
            &c.duration_ms as &[Option<i64>],
            &c.outcome,
            &c.satisfaction,
            &c.purpose_id,
            &c.sealed as &[Option<Vec<u8>>]
        );
        sql("insert interaction.interactions", query.execute(tx.sql())).await?;
        Ok(())
    }

    pub async fn interaction_get(&self, request: &GetInteractionRequest) -> Result<Interaction> {
        self.db.require(request.consistency.as_ref()).await?;
        let id = uuid(&request.interaction_id)?;
        let query = sqlx::query_as!(
            Whole,
            r#"
            select to_jsonb(i) - 'sealed' - 'visitor_hash' as "head!: Json<Head>", sealed
            from interaction.interactions i where interaction_id = $1
            "#,
            id
        );
        let row = sql("select interaction.interactions", query.fetch_optional(&self.db)).await?;
        let row = row.ok_or(reason::INTERACTION_NOT_FOUND)?;
        if let Some(customer) = row.head.0.customer_id {
            self.db.refuse_erased(&[customer]).await?;
        }
        let mut interaction = row.head.0.into_proto();
        if let Some(sealed) = row.sealed {
            let keys = self.db.unlock([sealed.as_slice()]).await?;
            let sealed = Interaction::decode(keys.open(place(id), &sealed)?.as_slice())?;
            interaction.transcript = sealed.transcript;
            // Who a visitor was is told only while nobody knows better.
            interaction.visitor = sealed.visitor.filter(|_| interaction.customer_id.is_empty());
        }
        Ok(interaction)
    }

    pub async fn interaction_list(&self, request: &ListInteractionsRequest) -> Result<Page<Interaction>> {
        self.db.require_of(request.consistency.as_ref(), &[uuid(&request.customer_id)?]).await?;
        let size = page_size(request.page_size, 100);
        let listing = format!("ListInteractions {}", request.customer_id);
        let after: Option<timeline::Position> = self.db.cursor(&listing, &request.page_token)?;
        let query = sqlx::query_as!(
            Head,
            r#"
            select interaction_id, customer_id, occurred_at, received_at, channel, direction, topic, agent_id,
                   duration_ms, outcome, satisfaction, purpose_id
            from interaction.interactions
            where customer_id = $1
              and ($2::timestamptz is null or (occurred_at, interaction_id) < ($2, $3::uuid))
            order by occurred_at desc, interaction_id desc
            limit $4
            "#,
            uuid(&request.customer_id)?,
            after.map(|position| position.occurred_at),
            after.map(|position| position.interaction_id),
            size + 1
        );
        let rows = sql("select interaction.interactions", query.fetch_all(&self.db)).await?;
        let page = self.db.page(&listing, rows, size, Head::position);
        let items = page.items.into_iter().map(Head::into_proto).collect();
        Ok(Page { items, next_page_token: page.next_page_token })
    }

    /// How often the company addressed a customer for a purpose, the latest times alone, and the first of those.
    pub async fn outbound_count(
        &self,
        request: &CountOutboundInteractionsRequest,
    ) -> Result<CountOutboundInteractionsResponse> {
        let customer = uuid(&request.customer_id)?;
        self.db.require_of(request.consistency.as_ref(), &[customer]).await?;
        let query = sqlx::query!(
            r#"
            select count(*) as "count!", min(occurred_at) as first_at from (
                select occurred_at from interaction.interactions
                where customer_id = $1 and purpose_id = $2 and occurred_at > $3 and occurred_at <= $4
                  and purpose_id <> '' and direction = 2
                order by occurred_at desc limit $5) as latest
            "#,
            customer,
            request.purpose_id,
            time(request.after_time),
            time(request.until_time),
            i64::from(request.limit)
        );
        let row = sql("select interaction.interactions", query.fetch_one(&self.db)).await?;
        Ok(CountOutboundInteractionsResponse { count: row.count as i32, first_time: row.first_at.map(timestamp) })
    }

    pub async fn visitor_link(&self, call: &Call, request: LinkVisitorRequest) -> Result<Written<LinkVisitorResponse>> {
        let key = self.db.key("LinkVisitor", &request.request_id, &request)?;
        let customer_id = uuid(&request.customer_id)?;
        let visitor = request.visitor.unwrap_or_default();
        let hash = hash(self.db.vault(), &visitor);
        self.db
            .write(call, key, move |tx| {
                let hash = hash.clone();
                Box::pin(async move {
                    visitor_claim(tx, &hash, customer_id).await?;
                    let version = tx.raise(customer_id).await?;
                    let moved_count = visitor_give(tx, &hash, customer_id).await?;
                    tx.keys_give(owner_of(&hash), customer_id).await?;
                    let payload = json!({"moved_count": moved_count});
                    let change = Change { customer_id, version, resource: "visitor", kind: "visitor.linked", payload };
                    tx.changes(vec![change]).await?;
                    Ok(LinkVisitorResponse { moved_count, consistency_token: tx.token(customer_id, version) })
                })
            })
            .await
    }

    /// The customer behind each visitor.
    pub async fn visitor_resolve(&self, visitors: &[Visitor]) -> Result<Vec<Option<Uuid>>> {
        let hashes: Vec<Vec<u8>> = visitors.iter().map(|visitor| hash(self.db.vault(), visitor)).collect();
        let query = sqlx::query!(
            r#"
            select asked.position as "position!", found.customer_id
            from unnest($1::bytea[]) with ordinality as asked (hash, position)
            join interaction.visitors as found using (hash)
            "#,
            &hashes
        );
        let rows = sql("select interaction.visitors", query.fetch_all(&self.db)).await?;
        let mut found = vec![None; visitors.len()];
        for row in rows {
            found[row.position as usize - 1] = row.customer_id;
        }
        Ok(found)
    }

    /// What a section needs of each customer, by one statement.
    pub async fn section_rows(&self, ids: &[Uuid]) -> Result<Vec<SectionRow>> {
        let query = sqlx::query_file_as!(SectionRow, "queries/section.sql", ids);
        sql("select interaction.interactions", query.fetch_all(&self.db)).await
    }
}

/// What a section is made of.
pub struct SectionRow {
    pub customer_id: Uuid,
    pub version: i64,
    pub cases: Json<Vec<case::Row>>,
    pub interactions: Json<Vec<Head>>,
    pub open_cases: i64,
    pub total: i64,
}

/// An interaction without its sealed part, as listings and sections show it.
#[derive(Deserialize)]
pub struct Head {
    interaction_id: Uuid,
    customer_id: Option<Uuid>,
    occurred_at: DateTime<Utc>,
    received_at: DateTime<Utc>,
    channel: i32,
    direction: i32,
    topic: String,
    agent_id: String,
    duration_ms: Option<i64>,
    outcome: String,
    satisfaction: i32,
    purpose_id: String,
}

impl Head {
    fn position(&self) -> timeline::Position {
        timeline::Position { occurred_at: self.occurred_at, interaction_id: self.interaction_id }
    }

    pub fn into_proto(self) -> Interaction {
        let duration = |ms: i64| prost_types::Duration { seconds: ms / 1000, nanos: (ms % 1000) as i32 * 1_000_000 };
        Interaction {
            interaction_id: self.interaction_id.to_string(),
            customer_id: self.customer_id.map(|id| id.to_string()).unwrap_or_default(),
            occurred_time: Some(timestamp(self.occurred_at)),
            received_time: Some(timestamp(self.received_at)),
            channel: self.channel,
            direction: self.direction,
            topic: self.topic,
            agent_id: self.agent_id,
            duration: self.duration_ms.map(duration),
            outcome: self.outcome,
            satisfaction: self.satisfaction,
            purpose_id: self.purpose_id,
            ..Default::default()
        }
    }
}

/// An interaction with its sealed part.
struct Whole {
    head: Json<Head>,
    sealed: Option<Vec<u8>>,
}

/// The columns of interactions about to be inserted, side by side for `unnest`.
#[derive(Default)]
struct Columns {
    interaction_id: Vec<Uuid>,
    customer_id: Vec<Option<Uuid>>,
    visitor_hash: Vec<Option<Vec<u8>>>,
    occurred_at: Vec<DateTime<Utc>>,
    channel: Vec<i32>,
    direction: Vec<i32>,
    topic: Vec<String>,
    agent_id: Vec<String>,
    duration_ms: Vec<Option<i64>>,
    outcome: Vec<String>,
    satisfaction: Vec<i32>,
    purpose_id: Vec<String>,
    sealed: Vec<Option<Vec<u8>>>,
}

impl Columns {
    fn push(&mut self, keys: &Keys, new: &NewInteraction) -> Result<()> {
        let interaction = &new.interaction;
        let occurred_at = time(interaction.occurred_time);
        self.interaction_id.push(new.interaction_id);
        self.customer_id.push(new.customer_id);
        self.visitor_hash.push(new.visitor_hash.clone());
        self.occurred_at.push(occurred_at.ok_or_else(|| Failure::invalid("occurred_time", "is not a time"))?);
        self.channel.push(interaction.channel);
        self.direction.push(interaction.direction);
        self.topic.push(interaction.topic.clone());
        self.agent_id.push(interaction.agent_id.clone());
        self.duration_ms.push(interaction.duration.as_ref().and_then(timeline::duration_ms));
        self.outcome.push(interaction.outcome.clone());
        self.satisfaction.push(interaction.satisfaction);
        self.purpose_id.push(interaction.purpose_id.clone());
        self.sealed.push(seal(keys, new)?);
        Ok(())
    }
}

/// Makes a visitor the customer's, unless it is another's.
async fn visitor_claim(tx: &mut Tx, hash: &[u8], customer: Uuid) -> Result<()> {
    let query = sqlx::query!("insert into interaction.visitors (hash) values ($1) on conflict do nothing", hash);
    sql("insert interaction.visitors", query.execute(tx.sql())).await?;
    let query = sqlx::query_scalar!("select customer_id from interaction.visitors where hash = $1 for update", hash);
    match sql("select interaction.visitors", query.fetch_one(tx.sql())).await? {
        Some(owner) if owner != customer => Err(reason::VISITOR_LINKED.into()),
        _ => Ok(()),
    }
}

/// Gives the customer what was recorded under a visitor, and how much that is.
async fn visitor_give(tx: &mut Tx, hash: &[u8], customer: Uuid) -> Result<i64> {
    let query = sqlx::query!("update interaction.visitors set customer_id = $2 where hash = $1", hash, customer);
    sql("update interaction.visitors", query.execute(tx.sql())).await?;
    let query = sqlx::query!(
        "update interaction.interactions set customer_id = $2 where visitor_hash = $1 and customer_id is null",
        hash,
        customer
    );
    let moved = sql("update interaction.interactions", query.execute(tx.sql())).await?;
    Ok(moved.rows_affected() as i64)
}

/// Reads the base64 text of a sealed column that came inside JSON. Postgres breaks its lines.
pub fn base64<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    BASE64_STANDARD.decode(text.replace('\n', "")).map_err(D::Error::custom)
}

fn seal(keys: &Keys, new: &NewInteraction) -> Result<Option<Vec<u8>>, Unreadable> {
    let transcript = new.interaction.transcript.clone();
    let personal = Interaction { transcript, visitor: new.interaction.visitor.clone(), ..Default::default() };
    let empty = personal.transcript.is_empty() && personal.visitor.is_none();
    (!empty).then(|| keys.seal(new.owner(), place(new.interaction_id), &personal.encode_to_vec())).transpose()
}

/// A device and an anonymous visitor of the same id are two.
fn hash(vault: &Vault, visitor: &Visitor) -> Vec<u8> {
    let (field, id) = match visitor.device_id.as_str() {
        "" => ("visitors.anonymous_id", &visitor.anonymous_id),
        _ => ("visitors.device_id", &visitor.device_id),
    };
    vault.index(field, id.as_bytes()).to_vec()
}

/// A visitor as the owner of keys.
fn owner_of(visitor_hash: &[u8]) -> Uuid {
    let bytes = visitor_hash.first_chunk().copied().unwrap_or_default();
    Builder::from_custom_bytes(bytes).into_uuid()
}

fn place(interaction_id: Uuid) -> Place {
    Place { table: "interactions", column: "sealed", row: interaction_id }
}
