//! Models as they are stored.

use access::Call;
use chrono::{DateTime, NaiveDate, Utc};
use proto::insight::v1::{LifetimeModel, Parameter};
use serde::Deserialize;
use store::{Result, sql, timestamp};

use super::Store;
use crate::{
    lifetime::{Fit, PurchaseModel, SpendModel},
    reason,
};

/// A model of when and for how much customers buy.
#[derive(Clone, Deserialize)]
pub struct Model {
    currency: String,
    pub as_of_day: NaiveDate,
    fitted_at: DateTime<Utc>,
    customer_count: i64,
    repeat_customer_count: i64,
    purchase_parameters: Vec<f64>,
    purchase_errors: Vec<f64>,
    log_likelihood: f64,
    spend_parameters: Option<Vec<f64>>,
    spend_errors: Option<Vec<f64>>,
    spend_log_likelihood: Option<f64>,
}

impl Model {
    /// A model that was fitted now.
    pub fn new(
        currency: &str,
        as_of_day: NaiveDate,
        customers: (i64, i64),
        purchases: Fit<4>,
        spend: Option<Fit<3>>,
    ) -> Self {
        Self {
            currency: currency.to_owned(),
            as_of_day,
            fitted_at: Utc::now(),
            customer_count: customers.0,
            repeat_customer_count: customers.1,
            purchase_parameters: purchases.parameters.to_vec(),
            purchase_errors: purchases.standard_errors.to_vec(),
            log_likelihood: purchases.log_likelihood,
            spend_parameters: spend.map(|fit| fit.parameters.to_vec()),
            spend_errors: spend.map(|fit| fit.standard_errors.to_vec()),
            spend_log_likelihood: spend.map(|fit| fit.log_likelihood),
        }
    }

    /// When customers buy. A constraint says that there are four parameters.
    pub fn purchases(&self) -> Result<PurchaseModel> {
        let parameters = self.purchase_parameters.as_slice().try_into().map_err(|_| reason::INTERNAL_ERROR)?;
        Ok(PurchaseModel::of(parameters))
    }

    /// For how much, if the amounts say anything.
    pub fn spend(&self) -> Option<SpendModel> {
        Some(SpendModel::of(self.spend_parameters.as_deref()?.try_into().ok()?))
    }

    pub fn into_proto(self) -> LifetimeModel {
        let pair = |values: &[f64], errors: &[f64], i: usize| {
            Some(Parameter { value: *values.get(i)?, standard_error: *errors.get(i)? })
        };
        let purchase = |i| pair(&self.purchase_parameters, &self.purchase_errors, i);
        let spend = |i| pair(self.spend_parameters.as_deref()?, self.spend_errors.as_deref()?, i);
        LifetimeModel {
            as_of_day: self.as_of_day.to_string(),
            fit_time: Some(timestamp(self.fitted_at)),
            customer_count: self.customer_count,
            repeat_customer_count: self.repeat_customer_count,
            r: purchase(0),
            alpha: purchase(1),
            a: purchase(2),
            b: purchase(3),
            log_likelihood: self.log_likelihood,
            p: spend(0),
            q: spend(1),
            gamma: spend(2),
            spend_log_likelihood: self.spend_log_likelihood.unwrap_or_default(),
            currency_code: self.currency,
        }
    }
}

impl Store {
    /// The model of a day, or the newest before it.
    pub async fn model(&self, currency: &str, until: Option<NaiveDate>) -> Result<Model> {
        let query = sqlx::query_as!(
            Model,
            r#"
            select * from insight.lifetime_models
            where currency = $1 and as_of_day <= $2 order by as_of_day desc limit 1
            "#,
            currency,
            until.unwrap_or(LAST_DAY)
        );
        let found = sql("select insight.lifetime_models", query.fetch_optional(&self.db)).await?;
        Ok(found.ok_or(reason::MODEL_NOT_FOUND)?)
    }

    /// Stores a model in place of what was fitted to the same day before.
    pub async fn model_put(&self, call: &Call, model: Model) -> Result<Model> {
        self.db
            .transact(call, move |tx| {
                let model = model.clone();
                Box::pin(async move {
                    let query = sqlx::query_as!(
                        Model,
                        r#"
                        insert into insight.lifetime_models (
                            currency, as_of_day, customer_count, repeat_customer_count, purchase_parameters,
                            purchase_errors, log_likelihood, spend_parameters, spend_errors, spend_log_likelihood)
                        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
                        on conflict (currency, as_of_day) do update set
                            fitted_at = excluded.fitted_at, customer_count = excluded.customer_count,
                            repeat_customer_count = excluded.repeat_customer_count,
                            purchase_parameters = excluded.purchase_parameters,
                            purchase_errors = excluded.purchase_errors, log_likelihood = excluded.log_likelihood,
                            spend_parameters = excluded.spend_parameters, spend_errors = excluded.spend_errors,
                            spend_log_likelihood = excluded.spend_log_likelihood
                        returning *
                        "#,
                        model.currency,
                        model.as_of_day,
                        model.customer_count,
                        model.repeat_customer_count,
                        &model.purchase_parameters,
                        &model.purchase_errors,
                        model.log_likelihood,
                        model.spend_parameters.as_deref(),
                        model.spend_errors.as_deref(),
                        model.spend_log_likelihood
                    );
                    sql("insert insight.lifetime_models", query.fetch_one(tx.sql())).await
                })
            })
            .await
    }
}

/// Postgres knows no later one than this that a day can be written as here.
const LAST_DAY: NaiveDate = NaiveDate::from_ymd_opt(9999, 12, 31).expect("a day");
