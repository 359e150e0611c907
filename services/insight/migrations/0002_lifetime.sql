-- Models of when and for how much customers buy, by currency and the last day that was counted.
create table insight.lifetime_models (
    currency text not null,
    as_of_day date not null,
    fitted_at timestamptz not null default clock_timestamp(),
    customer_count bigint not null,
    repeat_customer_count bigint not null,
    -- BG/NBD: r, alpha, a, b.
    purchase_parameters double precision[] not null,
    purchase_errors double precision[] not null,
    log_likelihood double precision not null,
    -- Gamma-gamma: p, q, gamma; null where the amounts have no maximum.
    spend_parameters double precision[],
    spend_errors double precision[],
    spend_log_likelihood double precision,
    constraint lifetime_models_pkey primary key (currency, as_of_day),
    constraint lifetime_models_purchase_check check (
        cardinality(purchase_parameters) = 4 and cardinality(purchase_errors) = 4 and 0 < all (purchase_parameters)),
    constraint lifetime_models_spend_check check (
        cardinality(spend_parameters) = 3 and cardinality(spend_errors) = 3 and 0 < all (spend_parameters))
);

comment on column insight.lifetime_models.currency is 'LifetimeModel.currency_code';
comment on column insight.lifetime_models.as_of_day is 'LifetimeModel.as_of_day';
comment on column insight.lifetime_models.fitted_at is 'LifetimeModel.fit_time';
comment on column insight.lifetime_models.customer_count is 'LifetimeModel.customer_count';
comment on column insight.lifetime_models.repeat_customer_count is 'LifetimeModel.repeat_customer_count';
comment on column insight.lifetime_models.purchase_parameters is 'LifetimeModel.r.value, LifetimeModel.alpha.value, LifetimeModel.a.value, LifetimeModel.b.value';
comment on column insight.lifetime_models.purchase_errors is 'LifetimeModel.r.standard_error, LifetimeModel.alpha.standard_error, LifetimeModel.a.standard_error, LifetimeModel.b.standard_error';
comment on column insight.lifetime_models.log_likelihood is 'LifetimeModel.log_likelihood';
comment on column insight.lifetime_models.spend_parameters is 'LifetimeModel.p.value, LifetimeModel.q.value, LifetimeModel.gamma.value';
comment on column insight.lifetime_models.spend_errors is 'LifetimeModel.p.standard_error, LifetimeModel.q.standard_error, LifetimeModel.gamma.standard_error';
comment on column insight.lifetime_models.spend_log_likelihood is 'LifetimeModel.spend_log_likelihood';
