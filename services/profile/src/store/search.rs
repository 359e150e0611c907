//! Search by the words of names. The database sees keyed hashes, so neither a prefix nor a likeness can be asked for.

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use proto::profile::v1::*;
use store::{Page, Result, page_size, sql};
use uuid::Uuid;
use vault::Vault;

use super::Store;
use crate::{name, reason};

impl Store {
    /// Who has all words of a query in the name. The rarest word leads: what has it is checked for the others.
    pub async fn profile_search(&self, request: &SearchProfilesRequest) -> Result<Page<Profile>> {
        self.db.require(request.consistency.as_ref()).await?;
        let tokens = name::tokens([request.query.as_str()]);
        let mut hashes: Vec<Vec<u8>> = tokens.iter().map(|token| hash(self.db.vault(), token)).collect();
        hashes.sort();
        let words = self.db.vault().index("search.query", &hashes.concat());
        let listing = format!("SearchProfiles {} {}", BASE64_STANDARD_NO_PAD.encode(words), request.region);
        let after: Uuid = self.db.cursor(&listing, &request.page_token)?.unwrap_or_default();
        let size = page_size(request.page_size, 20);
        let Some(rarest) = self.rarest(&hashes).await? else {
            return Ok(Page { items: Vec::new(), next_page_token: String::new() });
        };
        hashes.retain(|hash| *hash != rarest);
        let query = sqlx::query_scalar!(
            r#"
            select n.customer_id from profile.name_tokens n join profile.profiles p using (customer_id)
            where n.hash = $1 and n.customer_id > $2
              and not exists (
                  select 1 from unnest($3::bytea[]) as other (hash)
                  where not exists (select 1 from profile.name_tokens m
                                    where m.hash = other.hash and m.customer_id = n.customer_id))
              and ($4 = '' or p.region = $4 or starts_with(p.region, $4 || '-'))
            order by n.customer_id limit $5
            "#,
            rarest,
            after,
            &hashes,
            request.region,
            size + 1
        );
        let ids = sql("select profile.name_tokens", query.fetch_all(self.db.pool())).await?;
        let rows = self.profile_rows(&ids).await?;
        Ok(self.page(&listing, rows, size))
    }

    /// The rarest of some words; none when one of them is in no name.
    async fn rarest(&self, hashes: &[Vec<u8>]) -> Result<Option<Vec<u8>>> {
        let query = sqlx::query!(
            r#"
            with common as (
                select greatest(1000, reltuples * 0.005)::bigint as count from pg_class
                where oid = 'profile.profiles'::regclass
            )
            select asked.hash as "hash!", common.count as "common!",
                   (select count(*) from (select 1 from profile.name_tokens n where n.hash = asked.hash
                                          limit common.count + 1) as found) as "count!"
            from unnest($1::bytea[]) as asked (hash) cross join common
            order by 3 limit 1
            "#,
            hashes
        );
        match sql("select profile.name_tokens", query.fetch_optional(self.db.pool())).await? {
            None => Ok(None),
            Some(row) if row.count == 0 => Ok(None),
            Some(row) if row.count > row.common => Err(reason::QUERY_TOO_COMMON.into()),
            Some(row) => Ok(Some(row.hash)),
        }
    }
}

/// A word of a name as it is stored.
pub fn hash(vault: &Vault, token: &str) -> Vec<u8> {
    vault.index("name_tokens.token", token.as_bytes()).to_vec()
}
