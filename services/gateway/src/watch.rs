//! The feeds of all services as one. Each is followed by a task of its own, so that one that is down
//! holds up no other; it is asked again from its own token until it is back.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use access::Call;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use error::Failure;
use futures_util::{Stream, stream};
use proto::{
    customer::v1::{SectionName, UnavailableSection, WatchCustomersRequest, WatchCustomersResponse},
    feed::v1::{WatchChangesRequest, WatchChangesResponse},
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::{
    peers::{Owner, Peers},
    reason,
    view::{self, reason_of},
};

/// An idle stream gets a token this often.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// A service that is down is asked again this often.
const RETRY: Duration = Duration::from_millis(500);
/// A service that says nothing for so long is down.
const SILENCE: Duration = Duration::from_secs(3);
/// A message that is not taken for so long ends the stream.
const PATIENCE: Duration = Duration::from_secs(60);

/// Stands for the token of a service that has not begun to tell its initial state.
const INITIAL: &str = "initial";

/// What a service's task says.
enum News {
    Message(WatchChangesResponse),
    Down(String),
    Over(Status),
}

/// One caller's stream over several services.
pub struct Watch {
    tokens: BTreeMap<i32, String>,
    heard: BTreeSet<i32>,
    waiting: VecDeque<(SectionName, WatchChangesResponse)>,
    down: BTreeMap<i32, String>,
    news: mpsc::Receiver<(SectionName, News)>,
    sent: Instant,
    draining: CancellationToken,
    over: bool,
    // The tasks end with the stream.
    _tasks: JoinSet<()>,
}

impl Watch {
    /// Begins to follow the services that the request names, or those of its token.
    pub fn begin(
        peers: &Peers,
        call: &Call,
        request: &WatchCustomersRequest,
        draining: CancellationToken,
    ) -> Result<Self, Failure> {
        let begin = if request.initial_state { INITIAL } else { "" };
        let wanted = |section: &i32| request.sections.is_empty() || request.sections.contains(section);
        let tokens: BTreeMap<i32, String> = match request.resume_token.as_str() {
            "" => {
                let sections = peers.all().map(|owner| owner.section.into()).filter(wanted);
                sections.map(|section| (section, begin.to_owned())).collect()
            }
            token => read(token).ok_or(reason::RESUME_TOKEN_INVALID)?,
        };
        let (sender, news) = mpsc::channel(4);
        let mut tasks = JoinSet::new();
        for owner in peers.all() {
            let Some(token) = tokens.get(&owner.section.into()) else { continue };
            let initial_state = token == INITIAL;
            let request = WatchChangesRequest {
                resume_token: if initial_state { String::new() } else { token.clone() },
                initial_state,
                customer_ids: request.customer_ids.clone(),
                types: request.types.clone(),
            };
            tasks.spawn(follow(owner.clone(), call.clone(), request, sender.clone()));
        }
        Ok(Self {
            tokens,
            heard: BTreeSet::new(),
            waiting: VecDeque::new(),
            down: BTreeMap::new(),
            news,
            sent: Instant::now(),
            draining,
            over: false,
            _tasks: tasks,
        })
    }

    /// The messages. Each is made when the one before was taken.
    pub fn stream(self) -> impl Stream<Item = Result<WatchCustomersResponse, Status>> + Send {
        stream::try_unfold(self, |mut watch| async move {
            if watch.over {
                return Err(reason::SERVER_DRAINING.into());
            }
            let draining = watch.draining.clone();
            let next = tokio::select! {
                message = watch.next() => Some(message?),
                () = draining.cancelled() => None,
            };
            // The last word is where to go on.
            watch.over = next.is_none();
            let message = next.unwrap_or_else(|| watch.message(WatchCustomersResponse::default()));
            watch.sent = Instant::now();
            Ok(Some((message, watch)))
        })
    }

    async fn next(&mut self) -> Result<WatchCustomersResponse, Status> {
        if self.sent.elapsed() > PATIENCE {
            return Err(reason::SLOW_CONSUMER.into());
        }
        loop {
            // Nothing is said before each service has said where it begins, or that it is down: a token
            // without its beginning would go on from a later one.
            let known = |section: &i32| self.down.contains_key(section) || self.heard.contains(section);
            let begun = self.tokens.keys().all(known);
            if begun && let Some((section, message)) = self.waiting.pop_front() {
                self.tokens.insert(section.into(), message.resume_token);
                if !message.changes.is_empty() || !message.states.is_empty() {
                    let states = message.states.iter().map(|state| view::alone(section, state)).collect();
                    let changes = message.changes;
                    return Ok(self.message(WatchCustomersResponse { changes, states, ..Default::default() }));
                }
                continue;
            }
            let left = if begun { HEARTBEAT.saturating_sub(self.sent.elapsed()) } else { PATIENCE };
            let Ok(news) = tokio::time::timeout(left, self.news.recv()).await else {
                return Ok(self.message(WatchCustomersResponse::default()));
            };
            match news {
                None => return Err(reason::SERVICE_UNAVAILABLE.into()),
                Some((_, News::Over(status))) => return Err(status),
                Some((section, News::Down(reason))) => {
                    self.down.insert(section.into(), reason);
                }
                Some((section, News::Message(message))) => {
                    self.down.remove(&section.into());
                    self.heard.insert(section.into());
                    self.waiting.push_back((section, message));
                }
            }
        }
    }

    fn message(&self, message: WatchCustomersResponse) -> WatchCustomersResponse {
        let down = self.down.iter();
        let unavailable =
            down.map(|(section, reason)| UnavailableSection { section: *section, reason: reason.clone() });
        let text = serde_json::to_vec(&self.tokens).expect("numbers and texts are JSON");
        let resume_token = BASE64_URL_SAFE_NO_PAD.encode(text);
        WatchCustomersResponse { resume_token, unavailable: unavailable.collect(), ..message }
    }
}

/// The tokens of the services; each service proves its own.
fn read(token: &str) -> Option<BTreeMap<i32, String>> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(token).ok()?)
        .ok()
        .filter(|tokens: &BTreeMap<_, _>| !tokens.is_empty())
}

/// Follows one service until the stream is over.
async fn follow(owner: Owner, call: Call, mut request: WatchChangesRequest, news: mpsc::Sender<(SectionName, News)>) {
    loop {
        let Err(status) = pass_on(&owner, &call, &mut request, &news).await else { return };
        let over = matches!(status.code(), Code::OutOfRange | Code::InvalidArgument | Code::PermissionDenied);
        let said = if over { News::Over(status) } else { News::Down(reason_of(&status)) };
        if news.send((owner.section, said)).await.is_err() || over {
            return;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// A service that says nothing for three of its heartbeats is down.
async fn in_silence<T>(answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    tokio::time::timeout(SILENCE, answer).await.unwrap_or_else(|_| Err(reason::SERVICE_UNAVAILABLE.into()))
}

/// Passes messages on, and keeps the token of the last in the request.
async fn pass_on(
    owner: &Owner,
    call: &Call,
    request: &mut WatchChangesRequest,
    news: &mpsc::Sender<(SectionName, News)>,
) -> Result<(), Status> {
    let mut feed = owner.peer.feed.clone();
    let begun = feed.watch_changes(owner.peer.stream(call, request.clone()));
    let mut messages = in_silence(begun).await?.into_inner();
    while let Some(message) = in_silence(messages.message()).await? {
        request.resume_token.clone_from(&message.resume_token);
        request.initial_state = false;
        if news.send((owner.section, News::Message(message))).await.is_err() {
            return Ok(());
        }
    }
    Err(reason::SERVICE_UNAVAILABLE.into())
}
