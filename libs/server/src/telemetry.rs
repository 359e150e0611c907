use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{LogExporter, SpanExporter};
use opentelemetry_sdk::{
    Resource,
    logs::SdkLoggerProvider,
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

/// Traces and logs of one process. Both leave by OTLP when `OTEL_EXPORTER_OTLP_ENDPOINT` is set; logs go to
/// standard error too, filtered by `RUST_LOG`.
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
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
        let (traces, exporter) = match std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT") {
            Some(_) => (Some(traces(service)?), Some(exporter(service)?)),
            None => (None, None),
        };
        // The exporter's own connection must not be told of, or it would feed itself.
        let exported = "info,h2=off,hyper=off,tonic=off,tower=off,reqwest=off,opentelemetry=off,rlibphonenumber=off";
        let spans = traces.as_ref().map(|provider| {
            tracing_opentelemetry::layer().with_tracer(provider.tracer(service)).with_filter(EnvFilter::new(exported))
        });
        // Spans are for those who trace. A log that wrote them down would format each call's fields twice,
        // and most calls log nothing.
        let events = filter_fn(|metadata| metadata.is_event());
        let sent = exporter.as_ref().map(|provider| {
            OpenTelemetryTracingBridge::new(provider).with_filter(EnvFilter::new(exported).and(events.clone()))
        });
        let logs = tracing_subscriber::registry().with(logs.with_filter(filter.and(events)));
        // A layer that is there but empty would make every span and event be asked for anew.
        match spans {
            Some(spans) => logs.with(spans).with(sent).try_init()?,
            None => logs.try_init()?,
        }
        Ok(Self { traces, logs: exporter })
    }

    /// Sends what is still held back. Runs outside the workers, since the exporters need them.
    pub async fn shutdown(self) {
        let flush = tokio::task::spawn_blocking(move || {
            if let Some(traces) = self.traces {
                let _ = traces.shutdown_with_timeout(Duration::from_secs(3));
            }
            if let Some(logs) = self.logs {
                let _ = logs.shutdown_with_timeout(Duration::from_secs(3));
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

fn exporter(service: &'static str) -> anyhow::Result<SdkLoggerProvider> {
    let exporter = LogExporter::builder().with_tonic().build()?;
    Ok(SdkLoggerProvider::builder().with_batch_exporter(exporter).with_resource(resource(service)).build())
}
