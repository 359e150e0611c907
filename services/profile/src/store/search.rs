//! Search by the words of names and by what a filter asks. The database sees keyed hashes of words, so neither a prefix
//! nor a likeness can be asked for.

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use chrono::{DateTime, Utc};
use proto::profile::v1::*;
use sqlx::{Postgres, QueryBuilder};
use store::{Page, Result, page_size, sql};
use uuid::Uuid;
use vault::Vault;

use super::Store;
use crate::{filter::Filter, reason};

/// A page without a leading word looks through so many customers at most, so that who asks for what is rare gives way.
const WALKED: i64 = 20_000;

/// A word that so many names hold is rare enough to lead, whatever the others are.
const FEW: i64 = 200;

/// When a customer was created, and who it is.
type Place = (DateTime<Utc>, Uuid);

impl Store {
    /// Who is as a filter asks. The rarest of the words that a name must hold leads, and who has it comes by customer
    /// id; without such a word all come as they were created, or those of a country. What leads is tested for the rest.
    pub async fn profile_search(&self, request: &SearchProfilesRequest, filter: &Filter) -> Result<Page<Profile>> {
        self.db.require(request.consistency.as_ref()).await?;
        let asked = [request.query.as_bytes(), &[0], request.filter.as_bytes()].concat();
        let asked = self.db.vault().index("search.query", &asked);
        let listing = format!("SearchProfiles {}", BASE64_STANDARD_NO_PAD.encode(asked));
        let mut words: Vec<Vec<u8>> = filter.words().into_iter().map(|word| hash(self.db.vault(), word)).collect();
        words.sort();
        words.dedup();
        let size = page_size(request.page_size, 20);
        let page = if words.is_empty() {
            self.search_all(filter, &listing, &request.page_token, size).await?
        } else {
            let after: Option<Uuid> = self.db.cursor(&listing, &request.page_token)?;
            let found = match self.rarest(&words).await? {
                Some(rarest) => self.search_named(filter, rarest, after.unwrap_or_default(), size).await?,
                None => Vec::new(),
            };
            self.db.page(&listing, found, size, |customer| *customer)
        };
        Ok(Page { items: self.profile_rows(&page.items).await?, next_page_token: page.next_page_token })
    }

    /// Postgres does not know how rare a word is, so it is told where to begin: `offset 0` ends its freedom.
    async fn search_named(&self, filter: &Filter, word: Vec<u8>, after: Uuid, size: i64) -> Result<Vec<Uuid>> {
        let mut query = QueryBuilder::new("select n.customer_id from (select customer_id from profile.name_tokens");
        query.push(" where hash = ").push_bind(word).push(" and customer_id > ").push_bind(after);
        query.push(" order by customer_id offset 0) n cross join lateral");
        query.push(" (select 1 from profile.profiles p where p.customer_id = n.customer_id and ");
        test(&mut query, filter, self.db.vault());
        query.push(" offset 0) p order by n.customer_id limit ").push_bind(size + 1);
        // What may never be asked in this form again takes no place among the statements that are kept prepared.
        let found = query.build_query_scalar().persistent(filter.is_words()).fetch_all(&self.db);
        sql("select profile.name_tokens", found).await
    }

    async fn search_all(&self, filter: &Filter, listing: &str, token: &str, size: i64) -> Result<Page<Uuid>> {
        // A btree begins with the row that it is given, so that is where the filter begins.
        let first = (filter.created().0.unwrap_or_default(), Uuid::nil());
        let after: Place = self.db.cursor(listing, token)?.unwrap_or(first);
        let mut query = QueryBuilder::new("select created_at, customer_id from (select p.created_at, p.customer_id, ");
        test(&mut query, filter, self.db.vault());
        query.push(
            " and (select state from profile.customers c where c.customer_id = p.customer_id) <> 'erased' as holds",
        );
        walk(&mut query, filter, after);
        query.push(" limit ").push_bind(WALKED);
        query.push(") walked where holds order by created_at, customer_id limit ").push_bind(size + 1);
        let found = query.build_query_as::<Place>().persistent(false).fetch_all(&self.db);
        let found = sql("select profile.profiles", found).await?;
        if found.len() as i64 <= size {
            // Is there more to walk? Then the page is short, and goes on where this walk ended.
            let mut query = QueryBuilder::new("select p.created_at, p.customer_id");
            walk(&mut query, filter, after);
            query.push(" limit 1 offset ").push_bind(WALKED - 1);
            let last = query.build_query_as::<Place>().persistent(false).fetch_optional(&self.db);
            if let Some(last) = sql("select profile.profiles", last).await? {
                let items = found.into_iter().map(|(_, customer)| customer).collect();
                return Ok(Page { items, next_page_token: self.db.page_token(listing, &last) });
            }
        }
        let Page { items, next_page_token } = self.db.page(listing, found, size, |place| *place);
        Ok(Page { items: items.into_iter().map(|(_, customer)| customer).collect(), next_page_token })
    }

    /// The rarest of some words; none when one of them is in no name. Where one is in few names, nobody counts how
    /// common the others are.
    async fn rarest(&self, hashes: &[Vec<u8>]) -> Result<Option<Vec<u8>>> {
        let query = sqlx::query!(
            r#"
            with common as (
                select greatest(1000, reltuples * 0.005)::bigint as count from pg_class
                where oid = 'profile.profiles'::regclass
            ), few as materialized (
                select asked.hash, (select count(*) from (select 1 from profile.name_tokens n where n.hash = asked.hash
                                                          limit $2::bigint + 1) as found) as count
                from unnest($1::bytea[]) as asked (hash)
            )
            select few.hash as "hash!", common.count as "common!",
                   (case when (select min(count) from few) <= $2 then few.count else
                        (select count(*) from (select 1 from profile.name_tokens n where n.hash = few.hash
                                               limit common.count + 1) as found) end) as "count!"
            from few cross join common order by 3 limit 1
            "#,
            hashes,
            FEW
        );
        match sql("select profile.name_tokens", query.fetch_optional(&self.db)).await? {
            None => Ok(None),
            Some(row) if row.count == 0 => Ok(None),
            Some(row) if row.count > row.common => Err(reason::QUERY_TOO_COMMON.into()),
            Some(row) => Ok(Some(row.hash)),
        }
    }
}

/// Writes the way through all customers, or those of a country, as they were created.
fn walk(query: &mut QueryBuilder<Postgres>, filter: &Filter, (at, after): Place) {
    query.push(" from profile.profiles p where (p.created_at, p.customer_id) > (").push_bind(at);
    query.push(", ").push_bind(after).push(")");
    if let Some(country) = filter.country() {
        query.push(" and p.country = ").push_bind(country.to_owned());
    }
    if let Some(before) = filter.created().1 {
        query.push(" and p.created_at < ").push_bind(before);
    }
    query.push(" order by p.created_at, p.customer_id");
}

/// Writes what a filter asks of the profile `p`. Nothing of what a caller says becomes a part of the statement but as
/// a bound value.
fn test(query: &mut QueryBuilder<Postgres>, filter: &Filter, vault: &Vault) {
    let mut joined = |filters: &[Filter], by| {
        for (i, filter) in filters.iter().enumerate() {
            query.push(if i == 0 { "(" } else { by });
            test(query, filter, vault);
        }
        query.push(")");
    };
    match filter {
        Filter::All(filters) => joined(filters, " and "),
        Filter::Any(filters) => joined(filters, " or "),
        Filter::Not(filter) => {
            query.push("not ");
            test(query, filter, vault);
        }
        // Not `exists`, of which Postgres might make a table of all who have the word.
        Filter::Word(word) => {
            query.push(
                "coalesce((select true from profile.name_tokens w where w.customer_id = p.customer_id and w.hash = ",
            );
            query.push_bind(hash(vault, word)).push("), false)");
        }
        Filter::Country(country) => drop(query.push("p.country = ").push_bind(country.clone())),
        Filter::Region(region) => drop(query.push("p.region = ").push_bind(region.clone())),
        Filter::Language(language) => drop(query.push("p.language = ").push_bind(language.clone())),
        Filter::Within(language) => {
            query.push("starts_with(p.language || '-', ").push_bind(format!("{language}-")).push(")");
        }
        Filter::Gender(gender) => drop(query.push("p.gender = ").push_bind(*gender)),
        Filter::CreatedBefore(at) => drop(query.push("p.created_at < ").push_bind(*at)),
        Filter::CreatedFrom(at) => drop(query.push("p.created_at >= ").push_bind(*at)),
    }
}

/// A word of a name as it is stored.
pub fn hash(vault: &Vault, token: &str) -> Vec<u8> {
    vault.index("name_tokens.token", token.as_bytes()).to_vec()
}
