use std::time::Duration;

use futures_util::{StreamExt, stream::BoxStream};
use proto::{
    feed::v1::{WatchChangesRequest, WatchChangesResponse, feed_service_server::FeedService},
    section::v1::Section,
};
use server::accept;
use store::{Db, Load, Result};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{fences, purge, tailer::Tailer, watch::Watch};

/// Changes are kept so long.
const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// The feed of one service.
#[derive(Clone)]
pub struct Feed {
    db: Db,
    tailer: Tailer,
    load: Load,
}

impl Feed {
    /// Begins to follow the outbox, to raise the cache's fences after it, and to purge it of what is older than seven days. `load` gives initial
    /// states, past every cache.
    pub fn start(db: Db, load: Load) -> Self {
        tokio::spawn(purge::run(db.clone(), RETENTION));
        let tailer = Tailer::start(db.clone());
        if let Some(cache) = db.cache() {
            tokio::spawn(fences::keep(db.clone(), cache.clone(), tailer.clone()));
        }
        Self { tailer, db, load }
    }

    pub(crate) fn db(&self) -> &Db {
        &self.db
    }

    pub(crate) fn tailer(&self) -> &Tailer {
        &self.tailer
    }

    pub(crate) async fn sections(&self, ids: &[Uuid]) -> Result<Vec<Section>> {
        self.db.load_past_cache(&self.load, ids.to_vec()).await
    }
}

#[tonic::async_trait]
impl FeedService for Feed {
    type WatchChangesStream = BoxStream<'static, Result<WatchChangesResponse, Status>>;

    async fn watch_changes(
        &self,
        request: Request<WatchChangesRequest>,
    ) -> Result<Response<Self::WatchChangesStream>, Status> {
        let draining = server::draining(&request);
        let (_, message) = accept(request, |message: &WatchChangesRequest, violations| {
            if message.initial_state && !message.resume_token.is_empty() {
                violations.add("initial_state", "needs an empty token");
            }
        })?;
        let watch = Watch::begin(self.clone(), message, draining).await?;
        Ok(Response::new(watch.stream().boxed()))
    }
}
