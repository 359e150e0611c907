//! Custom attributes: how they are defined, and whether what is said of a customer fits.

use std::collections::HashMap;

use access::Call;
use chrono::{DateTime, TimeDelta, Utc};
use error::Violations;
use proto::profile::v1::*;
use store::{Page, Result, Tx, Written, page_size, sql, timestamp};

use super::Store;
use crate::{evidence::Said, reason};

const MAX_ATTRIBUTES: i64 = 500;

/// A definition as it is stored.
struct Row {
    name: String,
    display_name: String,
    r#type: i32,
    data_category: i32,
    purpose: String,
    retention_days: i32,
    allowed_values: Vec<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Row> for AttributeDefinition {
    fn from(row: Row) -> Self {
        Self {
            name: row.name,
            display_name: row.display_name,
            r#type: row.r#type,
            data_category: row.data_category,
            purpose: row.purpose,
            retention_days: row.retention_days,
            allowed_values: row.allowed_values,
            create_time: Some(timestamp(row.created_at)),
            update_time: Some(timestamp(row.updated_at)),
        }
    }
}

impl Store {
    pub async fn attribute_define(
        &self,
        call: &Call,
        request: DefineAttributeRequest,
    ) -> Result<Written<DefineAttributeResponse>> {
        let key = self.db.key("DefineAttribute", &request.request_id, &request)?;
        let definition = request.definition.unwrap_or_default();
        self.db
            .write(call, key, move |tx| {
                let definition = definition.clone();
                Box::pin(async move {
                    // One at a time, so that they can be counted.
                    let query = sqlx::query!("lock table profile.attribute_definitions in share row exclusive mode");
                    sql("lock profile.attribute_definitions", query.execute(tx.sql())).await?;
                    let query = sqlx::query_as!(
                        Row,
                        r#"
                        insert into profile.attribute_definitions as stored
                            (name, display_name, type, data_category, purpose, retention_days, allowed_values)
                        values ($1, $2, $3, $4, $5, $6, $7)
                        on conflict (name) do update
                        set display_name = excluded.display_name, purpose = excluded.purpose,
                            retention_days = excluded.retention_days, allowed_values = excluded.allowed_values,
                            updated_at = clock_timestamp()
                        where (stored.type, stored.data_category) = (excluded.type, excluded.data_category)
                        returning name, display_name, type, data_category, purpose, retention_days, allowed_values,
                                  created_at, updated_at
                        "#,
                        definition.name,
                        definition.display_name,
                        definition.r#type,
                        definition.data_category,
                        definition.purpose,
                        definition.retention_days,
                        &definition.allowed_values
                    );
                    let stored = sql("insert profile.attribute_definitions", query.fetch_optional(tx.sql())).await?;
                    let stored = stored.ok_or(reason::ATTRIBUTE_FIXED)?;
                    let query =
                        sqlx::query_scalar!(r#"select count(*) as "count!" from profile.attribute_definitions"#);
                    if sql("select profile.attribute_definitions", query.fetch_one(tx.sql())).await? > MAX_ATTRIBUTES {
                        return Err(reason::TOO_MANY_ATTRIBUTES.into());
                    }
                    Ok(DefineAttributeResponse { definition: Some(stored.into()) })
                })
            })
            .await
    }

    pub async fn attribute_list(&self, request: &ListAttributeDefinitionsRequest) -> Result<Page<AttributeDefinition>> {
        let size = page_size(request.page_size, 100);
        let after: String = self.db.cursor("ListAttributeDefinitions", &request.page_token)?.unwrap_or_default();
        let query = sqlx::query_as!(
            Row,
            r#"
            select name, display_name, type, data_category, purpose, retention_days, allowed_values, created_at,
                   updated_at
            from profile.attribute_definitions where name > $1 order by name limit $2
            "#,
            after,
            size + 1
        );
        let rows = sql("select profile.attribute_definitions", query.fetch_all(&self.db)).await?;
        let definitions = rows.into_iter().map(AttributeDefinition::from).collect();
        Ok(self.db.page("ListAttributeDefinitions", definitions, size, |definition| definition.name.clone()))
    }
}

/// The definitions of the attributes that profiles speak of, by name.
pub async fn definitions<'a>(
    tx: &mut Tx,
    profiles: impl IntoIterator<Item = &'a Profile>,
) -> Result<HashMap<String, AttributeDefinition>> {
    let attributes = profiles.into_iter().flat_map(|profile| &profile.attributes);
    let names: Vec<String> = attributes.map(|attribute| attribute.name.clone()).collect();
    if names.is_empty() {
        return Ok(HashMap::new());
    }
    let query = sqlx::query_as!(
        Row,
        r#"
        select name, display_name, type, data_category, purpose, retention_days, allowed_values, created_at, updated_at
        from profile.attribute_definitions where name = any ($1)
        "#,
        &names
    );
    let rows = sql("select profile.attribute_definitions", query.fetch_all(tx.sql())).await?;
    Ok(rows.into_iter().map(|row| (row.name.clone(), row.into())).collect())
}

/// Refuses attributes that are not defined or do not fit, and says until when the others are told.
pub fn define(definitions: &HashMap<String, AttributeDefinition>, profile: &str, said: &mut Said) -> Result<()> {
    let mut violations = Violations::default();
    for (i, attribute) in said.profile.attributes.iter_mut().enumerate() {
        let field = format!("{profile}.attributes[{i}]");
        let Some(definition) = definitions.get(&attribute.name) else {
            violations.add(format!("{field}.name"), "is not defined");
            continue;
        };
        let retention = Some(definition.retention_days).filter(|days| *days > 0);
        let end = retention.map(|days| said.observed_at + TimeDelta::days(days.into()));
        attribute.expire_time = end.map(timestamp);
        let Some(value) = &attribute.value else { continue };
        if type_of(value) as i32 != definition.r#type {
            violations.add(format!("{field}.value"), "is of another type than is defined");
        } else if !definition.allowed_values.is_empty() && !definition.allowed_values.contains(&value.text) {
            violations.add(format!("{field}.value.text"), "is not one of the allowed values");
        }
    }
    Ok(violations.into_result()?)
}

fn type_of(value: &AttributeValue) -> AttributeType {
    if value.integer.is_some() {
        AttributeType::Integer
    } else if value.number.is_some() {
        AttributeType::Number
    } else if value.truth.is_some() {
        AttributeType::Truth
    } else if value.date.is_some() {
        AttributeType::Date
    } else if value.time.is_some() {
        AttributeType::Time
    } else {
        AttributeType::Text
    }
}
