use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{MetricExporter, SpanExporter};
use opentelemetry_sdk::{
    Resource,
    metrics::SdkMeterProvider,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, filter_fn},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// Never logged, whatever is asked for: at the finest level it writes down the numbers that it is given.
const TELLTALE: &str = "rlibphonenumber=off";

/// How logs look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    Json,
    /// One readable line each, for a developer's terminal.
    Text,
}

/// Traces, metrics and logs of one process. Traces and metrics leave by OTLP when
/// `OTEL_EXPORTER_OTLP_ENDPOINT` is set; logs go to standard error, filtered by `RUST_LOG`.
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
}

impl Telemetry {
    /// Sets up this process, once.
    pub fn init(service: &'static str, format: LogFormat) -> anyhow::Result<Self> {
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
        let filter = filter.add_directive(TELLTALE.parse()?);
        let logs = match format {
            LogFormat::Json => tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr).boxed(),
            LogFormat::Text => {
                tracing_subscriber::fmt::layer().compact().with_target(false).with_writer(std::io::stderr).boxed()
            }
        };
        let (traces, metrics) = match std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT") {
            Some(_) => (Some(traces(service)?), Some(metrics(service)?)),
            None => (None, None),
        };
        // The exporter's own connection must not be traced, or it would feed itself.
        let exported = EnvFilter::new("info,h2=off,hyper=off,tonic=off,tower=off,reqwest=off,opentelemetry=off");
        let spans = traces
            .as_ref()
            .map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer(service)).with_filter(exported));
        // Spans are for those who trace. A log that wrote them down would format each call's fields twice,
        // and most calls log nothing.
        let events = filter_fn(|metadata| metadata.is_event());
        let logs = tracing_subscriber::registry().with(logs.with_filter(filter.and(events)));
        // A layer that is there but empty would make every span and event be asked for anew.
        match spans {
            Some(spans) => logs.with(spans).try_init()?,
            None => logs.try_init()?,
        }
        Ok(Self { traces, metrics })
    }

    /// Sends what is still held back. Runs outside the workers, since the exporters need them.
    pub async fn shutdown(self) {
        let flush = tokio::task::spawn_blocking(move || {
            if let Some(traces) = self.traces {
                let _ = traces.shutdown_with_timeout(Duration::from_secs(3));
            }
            if let Some(metrics) = self.metrics {
                let _ = metrics.shutdown_with_timeout(Duration::from_secs(3));
            }
        });
        let _ = tokio::time::timeout(Duration::from_secs(7), flush).await;
    }
}

fn resource(service: &'static str) -> Resource {
    Resource::builder().with_service_name(service).build()
}

fn traces(service: &'static str) -> anyhow::Result<SdkTracerProvider> {
    let exporter = SpanExporter::builder().with_tonic().build()?;
    // Which calls are traced was decided before there was a span.
    let builder = SdkTracerProvider::builder().with_sampler(Sampler::AlwaysOn).with_batch_exporter(exporter);
    Ok(builder.with_resource(resource(service)).build())
}

fn metrics(service: &'static str) -> anyhow::Result<SdkMeterProvider> {
    let exporter = MetricExporter::builder().with_tonic().build()?;
    let provider =
        SdkMeterProvider::builder().with_periodic_exporter(exporter).with_resource(resource(service)).build();
    opentelemetry::global::set_meter_provider(provider.clone());
    Ok(provider)
}
