//! Cases and their SQL.

use std::sync::Arc;

use access::Call;
use chrono::{DateTime, Utc};
use prost::Message;
use proto::interaction::v1::*;
use serde::Deserialize;
use serde_json::json;
use store::{Change, Page, Result, Written, page_size, sql, timestamp, uuid};
use uuid::Uuid;
use vault::{Keys, Place, Unreadable};

use crate::{reason, store::Store};

impl Store {
    pub async fn case_open(&self, call: &Call, request: OpenCaseRequest) -> Result<Written<OpenCaseResponse>> {
        let key = self.db.key("OpenCase", &request.request_id, &request)?;
        // A resolution is what closing says.
        let case = Arc::new(Case { resolution: String::new(), ..request.case.unwrap_or_default() });
        let customer_id = uuid(&case.customer_id)?;
        let case_id = Uuid::now_v7();
        self.db
            .write(call, key, move |tx| {
                let case = case.clone();
                Box::pin(async move {
                    let version = tx.raise(customer_id).await?;
                    let query = sqlx::query!(
                        r#"
                        insert into interaction.cases (case_id, customer_id, kind, severity, owner_id, sealed)
                        values ($1, $2, $3, $4, $5, $6)
                        "#,
                        case_id,
                        customer_id,
                        case.kind,
                        case.severity,
                        case.owner_id,
                        seal(tx.keys(), customer_id, case_id, &case)?
                    );
                    sql("insert interaction.cases", query.execute(tx.sql())).await?;
                    let payload = json!({
                        "case_id": case_id, "kind": case.kind().as_str_name(),
                        "severity": case.severity().as_str_name(), "owner_id": case.owner_id,
                    });
                    let change = Change { customer_id, version, resource: "case", kind: "case.opened", payload };
                    tx.changes(vec![change]).await?;
                    let consistency_token = tx.token(customer_id, version);
                    Ok(OpenCaseResponse { case_id: case_id.to_string(), consistency_token })
                })
            })
            .await
    }

    pub async fn case_close(&self, call: &Call, request: CloseCaseRequest) -> Result<Written<CloseCaseResponse>> {
        let key = self.db.key("CloseCase", &request.request_id, &request)?;
        let case_id = uuid(&request.case_id)?;
        let resolution = Arc::new(request.resolution);
        self.db
            .write(call, key, move |tx| {
                let resolution = resolution.clone();
                Box::pin(async move {
                    let row = Row::select(case_id, tx.sql()).await?.ok_or(reason::CASE_NOT_FOUND)?;
                    let version = tx.raise(row.customer_id).await?;
                    let row = Row::select(case_id, tx.sql()).await?.ok_or(reason::CASE_NOT_FOUND)?;
                    if row.closed_at.is_some() {
                        return Err(reason::CASE_CLOSED.into());
                    }
                    let customer_id = row.customer_id;
                    tx.unlock([row.sealed()]).await?;
                    let case = Case { resolution: resolution.to_string(), ..row.open(tx.keys())? };
                    let query = sqlx::query!(
                        "update interaction.cases set sealed = $2, closed_at = clock_timestamp() where case_id = $1",
                        case_id,
                        seal(tx.keys(), customer_id, case_id, &case)?
                    );
                    sql("update interaction.cases", query.execute(tx.sql())).await?;
                    let payload = json!({"case_id": case_id, "kind": case.kind().as_str_name()});
                    let change = Change { customer_id, version, resource: "case", kind: "case.closed", payload };
                    tx.changes(vec![change]).await?;
                    let consistency_token = tx.token(customer_id, version);
                    Ok(CloseCaseResponse { case_id: case_id.to_string(), consistency_token })
                })
            })
            .await
    }

    pub async fn case_get(&self, request: &GetCaseRequest) -> Result<Case> {
        self.db.require(request.consistency.as_ref()).await?;
        let row = Row::select(uuid(&request.case_id)?, &self.db).await?;
        let row = row.ok_or(reason::CASE_NOT_FOUND)?;
        self.db.refuse_erased(&[row.customer_id]).await?;
        let keys = self.db.unlock([row.sealed()]).await?;
        row.open(&keys)
    }

    pub async fn case_list(&self, request: &ListCasesRequest) -> Result<Page<Case>> {
        self.db.require_of(request.consistency.as_ref(), &[uuid(&request.customer_id)?]).await?;
        let size = page_size(request.page_size, 100);
        let listing = format!("ListCases {}", request.customer_id);
        let before: Uuid = self.db.cursor(&listing, &request.page_token)?.unwrap_or(Uuid::max());
        let query = sqlx::query_as!(
            Row,
            r#"
            select case_id, customer_id, kind, severity, owner_id, sealed, opened_at, closed_at
            from interaction.cases
            where customer_id = $1 and case_id < $2
            order by case_id desc
            limit $3
            "#,
            uuid(&request.customer_id)?,
            before,
            size + 1
        );
        let rows = sql("select interaction.cases", query.fetch_all(&self.db)).await?;
        let page = self.db.page(&listing, rows, size, |row| row.case_id);
        let keys = self.db.unlock(page.items.iter().map(Row::sealed)).await?;
        let open = |row: Row| {
            let case = row.open(&keys)?;
            Ok(Case { description: String::new(), resolution: String::new(), ..case })
        };
        let items = page.items.into_iter().map(open).collect::<Result<_>>()?;
        Ok(Page { items, next_page_token: page.next_page_token })
    }
}

/// A case as it is stored.
#[derive(Deserialize)]
pub struct Row {
    case_id: Uuid,
    customer_id: Uuid,
    kind: i32,
    severity: i32,
    owner_id: String,
    #[serde(deserialize_with = "crate::store::base64")]
    sealed: Vec<u8>,
    opened_at: DateTime<Utc>,
    closed_at: Option<DateTime<Utc>>,
}

impl Row {
    async fn select(case_id: Uuid, executor: impl sqlx::PgExecutor<'_>) -> Result<Option<Self>> {
        let query = sqlx::query_as!(
            Row,
            r#"
            select case_id, customer_id, kind, severity, owner_id, sealed, opened_at, closed_at
            from interaction.cases where case_id = $1
            "#,
            case_id
        );
        sql("select interaction.cases", query.fetch_optional(executor)).await
    }

    pub fn sealed(&self) -> &[u8] {
        &self.sealed
    }

    pub fn open(self, keys: &Keys) -> Result<Case> {
        // What is sealed is a case with its texts alone.
        let sealed = Case::decode(keys.open(place(self.case_id), &self.sealed)?.as_slice())?;
        let state = if self.closed_at.is_some() { CaseState::Closed } else { CaseState::Open };
        Ok(Case {
            case_id: self.case_id.to_string(),
            customer_id: self.customer_id.to_string(),
            kind: self.kind,
            severity: self.severity,
            owner_id: self.owner_id,
            state: state.into(),
            open_time: Some(timestamp(self.opened_at)),
            close_time: self.closed_at.map(timestamp),
            ..sealed
        })
    }
}

fn seal(keys: &Keys, customer: Uuid, case_id: Uuid, case: &Case) -> Result<Vec<u8>, Unreadable> {
    let personal = Case {
        subject: case.subject.clone(),
        description: case.description.clone(),
        resolution: case.resolution.clone(),
        ..Default::default()
    };
    keys.seal(customer, place(case_id), &personal.encode_to_vec())
}

fn place(case_id: Uuid) -> Place {
    Place { table: "cases", column: "sealed", row: case_id }
}
