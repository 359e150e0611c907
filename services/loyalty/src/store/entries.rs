//! The ledger's rows: transactions, their entries and the lots they move.

use access::Call;
use chrono::{DateTime, Utc};
use proto::loyalty::v1::*;
use serde_json::json;
use store::{Change, Page, Result, Tx, Written, page_size, sql, timestamp, uuid};
use uuid::Uuid;

use super::Store;
use crate::{
    ledger::{self, Holding, Lot, Posting},
    reason,
};

/// So many lots are read first to redeem from.
const FEW_LOTS: i64 = 64;

impl Store {
    pub async fn ledger_accrue(
        &self,
        call: &Call,
        request: AccruePointsRequest,
    ) -> Result<Written<AccruePointsResponse>> {
        let key = self.db.key("AccruePoints", &request.request_id, &request)?;
        let member_id = uuid(&request.member_id)?;
        self.db
            .write(call, key, move |tx| {
                let (points, cause) = (request.points, request.cause.clone());
                Box::pin(async move {
                    let mut book = Book::open(tx, member_id).await?;
                    let posting = Posting { lot_id: book.transaction_id, points, counter: Account::Issued };
                    let kind = TransactionKind::Accrual;
                    let (balance, consistency_token) = book.post(tx, kind, &cause, None, vec![posting]).await?;
                    let (transaction_id, balance) = (book.transaction_id.to_string(), Some(balance));
                    Ok(AccruePointsResponse { transaction_id, balance, consistency_token })
                })
            })
            .await
    }

    pub async fn ledger_redeem(
        &self,
        call: &Call,
        request: RedeemPointsRequest,
    ) -> Result<Written<RedeemPointsResponse>> {
        let key = self.db.key("RedeemPoints", &request.request_id, &request)?;
        let member_id = uuid(&request.member_id)?;
        self.db
            .write(call, key, move |tx| {
                let (points, cause) = (request.points, request.cause.clone());
                Box::pin(async move {
                    let mut book = Book::open(tx, member_id).await?;
                    let postings = ledger::redeem(&mut lots_worth(tx, member_id, points).await?, points)?;
                    let kind = TransactionKind::Redemption;
                    let (balance, consistency_token) = book.post(tx, kind, &cause, None, postings).await?;
                    let (transaction_id, balance) = (book.transaction_id.to_string(), Some(balance));
                    Ok(RedeemPointsResponse { transaction_id, balance, consistency_token })
                })
            })
            .await
    }

    pub async fn ledger_reverse(
        &self,
        call: &Call,
        request: ReverseTransactionRequest,
    ) -> Result<Written<ReverseTransactionResponse>> {
        let key = self.db.key("ReverseTransaction", &request.request_id, &request)?;
        let reversed = uuid(&request.transaction_id)?;
        self.db
            .write(call, key, move |tx| {
                let cause = request.cause.clone();
                Box::pin(async move {
                    let query = sqlx::query!(
                        "select member_id, kind from loyalty.transactions where transaction_id = $1",
                        reversed
                    );
                    let row = sql("select loyalty.transactions", query.fetch_optional(tx.sql())).await?;
                    let row = row.ok_or(reason::TRANSACTION_NOT_FOUND)?;
                    let kinds = [TransactionKind::Accrual as i32, TransactionKind::Redemption as i32];
                    if !kinds.contains(&row.kind) {
                        return Err(reason::NOT_REVERSIBLE.into());
                    }
                    let mut book = Book::open(tx, row.member_id).await?;
                    let postings = ledger::reverse(&postings_of(tx, reversed).await?);
                    let kind = TransactionKind::Reversal;
                    let (balance, consistency_token) = book.post(tx, kind, &cause, Some(reversed), postings).await?;
                    let (transaction_id, balance) = (book.transaction_id.to_string(), Some(balance));
                    Ok(ReverseTransactionResponse { transaction_id, balance, consistency_token })
                })
            })
            .await
    }

    pub async fn balance_get(&self, request: &GetBalanceRequest) -> Result<Balance> {
        self.db.require(request.consistency.as_ref()).await?;
        let at = Utc::now();
        let query = sqlx::query!(
            r#"
            select c.state = 'erased' as "erased!", m.balance, l.lot_id as "lot_id?", l.remaining as "remaining?",
                   l.expires_at
            from loyalty.members m
            join loyalty.customers c using (customer_id)
            left join lateral loyalty.lots_near(m.member_id, $2) l on true
            where m.member_id = $1
            "#,
            uuid(&request.member_id)?,
            at
        );
        let rows = sql("select loyalty.lots", query.fetch_all(&self.db)).await?;
        let total = match rows.first() {
            None => return Err(reason::MEMBER_NOT_FOUND.into()),
            Some(row) if row.erased => return Err(error::reason::CUSTOMER_ERASED.into()),
            Some(row) => row.balance,
        };
        let lots = rows
            .into_iter()
            .filter_map(|row| Some(Lot { lot_id: row.lot_id?, remaining: row.remaining?, expires_at: row.expires_at }));
        let mut holding = Holding { total, lots: lots.collect() };
        ledger::sort(&mut holding.lots);
        Ok(balance(&holding, at))
    }

    pub async fn ledger_list(&self, request: &ListLedgerEntriesRequest) -> Result<Page<LedgerEntry>> {
        self.db.require(request.consistency.as_ref()).await?;
        let member_id = uuid(&request.member_id)?;
        self.member_get(&GetMemberRequest { member_id: request.member_id.clone(), ..Default::default() }).await?;
        let size = page_size(request.page_size, 100);
        let listing = format!("ListLedgerEntries {member_id}");
        let after: Option<(DateTime<Utc>, Uuid)> = self.db.cursor(&listing, &request.page_token)?;
        let (created_at, entry_id) = after.unzip();
        let query = sqlx::query_as!(
            EntryRow,
            r#"
            select e.entry_id, e.transaction_id, t.kind, e.account, e.lot_id, e.points, t.cause, t.reverses_id,
                   e.created_at
            from loyalty.entries e
            join loyalty.transactions t using (transaction_id)
            where e.member_id = $1
              and ($2::timestamptz is null or (e.created_at, e.entry_id) < ($2, $3::uuid))
            order by e.created_at desc, e.entry_id desc
            limit $4
            "#,
            member_id,
            created_at,
            entry_id,
            size + 1
        );
        let rows = sql("select loyalty.entries", query.fetch_all(&self.db)).await?;
        let page = self.db.page(&listing, rows, size, |row| (row.created_at, row.entry_id));
        let items = page.items.into_iter().map(EntryRow::into_proto).collect();
        Ok(Page { items, next_page_token: page.next_page_token })
    }
}

/// A member's ledger under the customer's lock, about to get one transaction.
struct Book {
    transaction_id: Uuid,
    member_id: Uuid,
    customer_id: Uuid,
    expiry_months: i32,
    version: i64,
    at: DateTime<Utc>,
}

impl Book {
    /// Locks the customer, and first writes down what has expired.
    async fn open(tx: &mut Tx, member_id: Uuid) -> Result<Self> {
        let query = sqlx::query!(
            r#"
            select m.customer_id, p.expiry_months from loyalty.members m
            join loyalty.programmes p using (programme_id) where m.member_id = $1
            "#,
            member_id
        );
        let member = sql("select loyalty.members", query.fetch_optional(tx.sql())).await?;
        let member = member.ok_or(reason::MEMBER_NOT_FOUND)?;
        let version = tx.raise(member.customer_id).await?;
        let mut book = Self {
            transaction_id: Uuid::now_v7(),
            member_id,
            customer_id: member.customer_id,
            expiry_months: member.expiry_months,
            version,
            at: Utc::now(),
        };
        let expired = ledger::expire(&mut lots_near(tx, member_id, book.at).await?, book.at);
        if !expired.is_empty() {
            book.post(tx, TransactionKind::Expiry, "expiry", None, expired).await?;
            // Each transaction is a change with a version of its own.
            book.version = tx.raise(book.customer_id).await?;
            book.transaction_id = Uuid::now_v7();
        }
        Ok(book)
    }

    /// Writes one transaction: its entries, what is left of the lots, the balance and the change. Answers the balance
    /// after it, and the write's token.
    async fn post(
        &mut self,
        tx: &mut Tx,
        kind: TransactionKind,
        cause: &str,
        reverses: Option<Uuid>,
        postings: Vec<Posting>,
    ) -> Result<(Balance, String)> {
        let query = sqlx::query!(
            r#"
            insert into loyalty.transactions (transaction_id, member_id, kind, cause, reverses_id)
            values ($1, $2, $3, $4, $5)
            "#,
            self.transaction_id,
            self.member_id,
            kind as i32,
            cause,
            reverses
        );
        sql("insert loyalty.transactions", query.execute(tx.sql())).await?;
        if kind == TransactionKind::Accrual {
            self.lot_insert(tx, postings.iter().map(|p| p.points).sum()).await?;
        } else {
            lots_move(tx, &postings).await?;
        }
        let moved: i64 = postings.iter().map(|posting| posting.points).sum();
        let query = sqlx::query_scalar!(
            "update loyalty.members set balance = balance + $2 where member_id = $1 returning balance",
            self.member_id,
            moved
        );
        let total = sql("update loyalty.members", query.fetch_one(tx.sql())).await?;
        entries_insert(tx, self.transaction_id, self.member_id, &postings).await?;
        let balance = balance(&Holding { total, lots: lots_near(tx, self.member_id, self.at).await? }, self.at);

        let payload = json!({
            "member_id": self.member_id, "transaction_id": self.transaction_id, "points": moved,
            "kind": kind.as_str_name(), "balance": balance.points,
        });
        let (customer_id, version) = (self.customer_id, self.version);
        let change = Change { customer_id, version, resource: "ledger", kind: "ledger.posted", payload };
        tx.changes(vec![change]).await?;
        Ok((balance, tx.token(customer_id, version)))
    }

    async fn lot_insert(&self, tx: &mut Tx, points: i64) -> Result<()> {
        let query = sqlx::query!(
            r#"
            insert into loyalty.lots (lot_id, member_id, points, remaining, expires_at) values ($1, $2, $3, $3, $4)
            "#,
            self.transaction_id,
            self.member_id,
            points,
            ledger::expiry(self.at, self.expiry_months)
        );
        sql("insert loyalty.lots", query.execute(tx.sql())).await?;
        Ok(())
    }
}

/// A balance as it is shown.
pub fn balance(holding: &Holding, at: DateTime<Utc>) -> Balance {
    let next_lots = holding.live(at).map(|lot| proto::loyalty::v1::Lot {
        lot_id: lot.lot_id.to_string(),
        points: lot.remaining,
        expire_time: lot.expires_at.map(timestamp),
    });
    Balance { points: holding.points(at), next_lots: next_lots.collect(), as_of: Some(timestamp(at)) }
}

/// The lots whose time is over and the ten that are spent next.
async fn lots_near(tx: &mut Tx, member_id: Uuid, at: DateTime<Utc>) -> Result<Vec<Lot>> {
    let query = sqlx::query_as!(
        Lot,
        r#"select lot_id as "lot_id!", remaining as "remaining!", expires_at from loyalty.lots_near($1, $2)"#,
        member_id,
        at
    );
    let mut lots = sql("select loyalty.lots", query.fetch_all(tx.sql())).await?;
    ledger::sort(&mut lots);
    Ok(lots)
}

/// As many lots as it takes to redeem so many points, in the order in which they are spent, or all.
async fn lots_worth(tx: &mut Tx, member_id: Uuid, points: i64) -> Result<Vec<Lot>> {
    let mut limit = FEW_LOTS;
    loop {
        let query = sqlx::query_as!(
            Lot,
            r#"
            select lot_id, remaining, expires_at from loyalty.lots where member_id = $1 and remaining > 0
            order by expires_at, lot_id limit $2
            "#,
            member_id,
            limit
        );
        let lots = sql("select loyalty.lots", query.fetch_all(tx.sql())).await?;
        let worth: i64 = lots.iter().map(|lot| lot.remaining).sum();
        if worth >= points || (lots.len() as i64) < limit {
            return Ok(lots);
        }
        limit *= 8;
    }
}

async fn lots_move(tx: &mut Tx, postings: &[Posting]) -> Result<()> {
    let ids: Vec<Uuid> = postings.iter().map(|posting| posting.lot_id).collect();
    let points: Vec<i64> = postings.iter().map(|posting| posting.points).collect();
    let query = sqlx::query!(
        r#"
        update loyalty.lots set remaining = remaining + moved.points
        from unnest($1::uuid[], $2::bigint[]) as moved (lot_id, points)
        where lots.lot_id = moved.lot_id
        "#,
        &ids,
        &points
    );
    sql("update loyalty.lots", query.execute(tx.sql())).await?;
    Ok(())
}

/// Two entries for each posting, which add up to nothing.
async fn entries_insert(tx: &mut Tx, transaction_id: Uuid, member_id: Uuid, postings: &[Posting]) -> Result<()> {
    let sides = |posting: &Posting| {
        let side = |account: Account, points| (Uuid::now_v7(), account as i32, posting.lot_id, points);
        [side(Account::Member, posting.points), side(posting.counter, -posting.points)]
    };
    let entries: Vec<_> = postings.iter().flat_map(sides).collect();
    let ids: Vec<Uuid> = entries.iter().map(|entry| entry.0).collect();
    let accounts: Vec<i32> = entries.iter().map(|entry| entry.1).collect();
    let lots: Vec<Uuid> = entries.iter().map(|entry| entry.2).collect();
    let points: Vec<i64> = entries.iter().map(|entry| entry.3).collect();
    let query = sqlx::query!(
        r#"
        insert into loyalty.entries (entry_id, transaction_id, member_id, account, lot_id, points)
        select id, $1, $2, account, lot_id, points
        from unnest($3::uuid[], $4::integer[], $5::uuid[], $6::bigint[]) as entry (id, account, lot_id, points)
        "#,
        transaction_id,
        member_id,
        &ids,
        &accounts,
        &lots,
        &points
    );
    sql("insert loyalty.entries", query.execute(tx.sql())).await?;
    Ok(())
}

/// What a transaction did, from its entries.
async fn postings_of(tx: &mut Tx, transaction_id: Uuid) -> Result<Vec<Posting>> {
    let query = sqlx::query!(
        r#"
        select lot_id, account, points from loyalty.entries where transaction_id = $1 and account <> $2
        "#,
        transaction_id,
        Account::Member as i32
    );
    let rows = sql("select loyalty.entries", query.fetch_all(tx.sql())).await?;
    let posting = |lot_id, account: i32, points: i64| Posting {
        lot_id,
        points: -points,
        counter: Account::try_from(account).unwrap_or_default(),
    };
    Ok(rows.into_iter().map(|row| posting(row.lot_id, row.account, row.points)).collect())
}

struct EntryRow {
    entry_id: Uuid,
    transaction_id: Uuid,
    kind: i32,
    account: i32,
    lot_id: Uuid,
    points: i64,
    cause: String,
    reverses_id: Option<Uuid>,
    created_at: DateTime<Utc>,
}

impl EntryRow {
    fn into_proto(self) -> LedgerEntry {
        LedgerEntry {
            entry_id: self.entry_id.to_string(),
            transaction_id: self.transaction_id.to_string(),
            kind: self.kind,
            account: self.account,
            lot_id: self.lot_id.to_string(),
            points: self.points,
            cause: self.cause,
            reverses_transaction_id: self.reverses_id.map(|id| id.to_string()).unwrap_or_default(),
            create_time: Some(timestamp(self.created_at)),
        }
    }
}
