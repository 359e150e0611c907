//! How many calls may be in flight. The limit follows what the calls themselves show: while they take as long as they
//! always did it grows, and when they take longer, since they wait for each other, it shrinks (the gradient of Netflix's
//! concurrency-limits, with a baseline that a queue cannot lift). Who comes above it is refused at once and told when
//! to come back, instead of waiting in vain.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use access::PURPOSE_HEADER;
use http::HeaderMap;
use metrics::{Gauge, METRICS, by};

/// The limit is set anew so often.
const WINDOW: Duration = Duration::from_millis(100);
/// Fewer calls of a method say nothing; they count with those of later windows.
const MIN_CALLS: u32 = 50;
/// Calls may take half as long again as they always did before it is taken for a queue.
const TOLERANCE: f64 = 1.5;
/// One window moves the limit up by a fifth of the way, and down by a half: what is let in too much waits behind
/// everybody.
const UP: f64 = 0.2;
const DOWN: f64 = 0.5;
/// The baseline follows calls that have become quicker by a tenth of the way in a window, and slower ones by a
/// five-thousandth: ten minutes of a slower database are believed, a minute of overload is not.
const QUICKER: f64 = 0.1;
const SLOWER: f64 = 0.0002;
/// No process has more in flight.
const MAX_LIMIT: f64 = 4096.0;
/// Where the limit begins.
const FIRST_LIMIT: f64 = 128.0;
/// A limit far above what is used would let in a flood before anything is noticed: it comes down slowly to so many times
/// what was in flight.
const ROOM: f64 = 8.0;
const FADE: f64 = 0.02;
/// Those whose work can wait may fill this share of the limit, and those whose cannot may pass it by so much: what the
/// first have filled must not keep the others out.
const PATIENT_SHARE: f64 = 0.75;
const PROMPT_SHARE: f64 = 1.5;
/// What can wait: nobody stands at a counter for it, and no law sets its time.
const PATIENT: [&str; 3] = ["marketing", "analytics", "administration"];

/// Whether somebody waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    /// A person waits, or a parcel, or the law.
    Prompt,
    /// It can be done later.
    Patient,
}

impl Priority {
    /// Its name, for metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Patient => "patient",
        }
    }

    /// By the purpose that is declared; a false one does not get past authentication.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let purpose = headers.get(PURPOSE_HEADER).map(http::HeaderValue::as_bytes);
        match purpose.is_some_and(|purpose| PATIENT.iter().any(|patient| patient.as_bytes() == purpose)) {
            true => Self::Patient,
            false => Self::Prompt,
        }
    }
}

/// Who may come in.
pub(crate) struct Admission {
    told: [Gauge; 2],
    floor: usize,
    limit: AtomicUsize,
    in_flight: AtomicUsize,
    measured: Mutex<Measured>,
}

/// A place among the calls in flight.
pub(crate) struct Place<'a>(&'a Admission);

struct Measured {
    began: Instant,
    most_in_flight: usize,
    methods: HashMap<&'static str, Method>,
    limit: f64,
}

#[derive(Default)]
struct Method {
    calls: u32,
    seconds: f64,
    /// How long a call takes when it waits for no other.
    baseline: Option<f64>,
}

impl Admission {
    /// Never lets in fewer than `floor` at once, since a cache that was lost slows calls down too.
    pub(crate) fn new(service: &'static str, floor: usize) -> Self {
        METRICS.begin(service);
        let limit = FIRST_LIMIT.max(floor as f64);
        let measured = Measured { began: Instant::now(), most_in_flight: 0, methods: HashMap::new(), limit };
        let told = [&METRICS.admission_limit, &METRICS.in_flight].map(|gauge| gauge.get_or_create_owned(&by(service)));
        told[0].set(limit);
        Self {
            told,
            floor,
            limit: AtomicUsize::new(limit as usize),
            in_flight: AtomicUsize::new(0),
            measured: Mutex::new(measured),
        }
    }

    /// A place, if there is one.
    pub(crate) fn enter(&self, priority: Priority) -> Option<Place<'_>> {
        let share = match priority {
            Priority::Prompt => PROMPT_SHARE,
            Priority::Patient => PATIENT_SHARE,
        };
        let limit = (self.limit.load(Relaxed) as f64 * share).ceil() as usize;
        let place = Place(self);
        // Counted first, so that of two for the last place one gets it.
        let before = self.in_flight.fetch_add(1, Relaxed);
        self.told[1].set(before as f64 + 1.0);
        (before < limit).then_some(place)
    }

    /// Learns from a call that was answered, or whose time was up.
    pub(crate) fn learn(&self, method: &'static str, took: Duration, is_late: bool) {
        let mut measured = self.measured.lock().expect("no holder panics");
        measured.most_in_flight = measured.most_in_flight.max(self.in_flight.load(Relaxed));
        let of_method = measured.methods.entry(method).or_default();
        let seconds = took.as_secs_f64();
        // Of an impatient caller nothing is known but that it would have taken longer.
        if !is_late || of_method.baseline.is_some_and(|baseline| seconds > baseline) {
            of_method.calls += 1;
            of_method.seconds += seconds;
        }
        if measured.began.elapsed() >= WINDOW {
            measured.conclude(self.floor as f64);
            self.limit.store(measured.limit as usize, Relaxed);
            self.told[0].set(measured.limit);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let before = self.0.in_flight.fetch_sub(1, Relaxed);
        self.0.told[1].set(before as f64 - 1.0);
    }
}

impl Measured {
    fn conclude(&mut self, floor: f64) {
        let (mut calls, mut gradients) = (0, 0.0);
        for method in self.methods.values_mut().filter(|method| method.calls >= MIN_CALLS) {
            let took = method.seconds / f64::from(method.calls);
            let baseline = method.baseline.unwrap_or(took);
            gradients += f64::from(method.calls) * (TOLERANCE * baseline / took).clamp(0.5, 1.0);
            calls += method.calls;
            let step = if took < baseline { QUICKER } else { SLOWER };
            method.baseline = Some(baseline + step * (took - baseline));
            (method.calls, method.seconds) = (0, 0.0);
        }
        let gradient = gradients / f64::from(calls.max(1));
        let aim = self.limit * gradient + self.limit.sqrt();
        // A limit that nobody reaches proves nothing by not being exceeded, and calls that are slow below it are slow for
        // another reason.
        let is_used = self.most_in_flight as f64 >= self.limit / 2.0;
        if calls > 0 && is_used {
            let step = if aim < self.limit { DOWN } else { UP };
            self.limit = (self.limit + step * (aim - self.limit)).clamp(floor, MAX_LIMIT.max(floor));
        }
        let near = ROOM * self.most_in_flight as f64;
        if calls > 0 && near < self.limit {
            self.limit = (self.limit + FADE * (near - self.limit)).max(floor);
        }
        (self.began, self.most_in_flight) = (Instant::now(), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows of calls to `servers` servers that take `millis` each, with as many in flight as are let in up to `offered`.
    fn run(measured: &mut Measured, windows: usize, servers: f64, millis: f64, offered: f64) {
        for _ in 0..windows {
            let in_flight = offered.min(measured.limit.floor());
            let took = millis / 1000.0 * (in_flight / servers).max(1.0);
            let calls = (0.1 / took * in_flight) as u32;
            let method = Method { baseline: measured.methods.get("m").and_then(|m| m.baseline), ..Method::default() };
            measured.methods.insert("m", Method { calls, seconds: f64::from(calls) * took, ..method });
            measured.most_in_flight = in_flight as usize;
            measured.conclude(8.0);
        }
    }

    fn new() -> Measured {
        Measured { began: Instant::now(), most_in_flight: 0, methods: HashMap::new(), limit: FIRST_LIMIT }
    }

    #[test]
    fn overload_leaves_a_short_queue_and_all_servers_busy() {
        let mut measured = new();
        run(&mut measured, 50, 8.0, 5.0, 4.0);
        // A minute of three times as much as there is room for.
        run(&mut measured, 600, 8.0, 5.0, 1000.0);
        assert!((8.0..24.0).contains(&measured.limit), "{}", measured.limit);
        // Without load it is not forgotten, and with more servers it grows.
        run(&mut measured, 100, 8.0, 5.0, 4.0);
        run(&mut measured, 600, 64.0, 5.0, 1000.0);
        assert!((64.0..160.0).contains(&measured.limit), "{}", measured.limit);
    }

    #[test]
    fn a_lost_cache_does_not_close_the_door() {
        let mut measured = new();
        run(&mut measured, 50, 1e9, 1.0, 200.0);
        run(&mut measured, 100, 1e9, 10.0, 200.0);
        assert!(measured.limit >= 8.0);
        // What lasts is believed in the end.
        run(&mut measured, 6000, 1e9, 10.0, 200.0);
        assert!(measured.limit >= 200.0, "{}", measured.limit);
    }

    #[test]
    fn who_can_wait_leaves_room_for_who_cannot() {
        let admission = Admission::new("test", 8);
        admission.limit.store(8, Relaxed);
        let patient: Vec<_> = (0..10).map(|_| admission.enter(Priority::Patient)).collect();
        assert_eq!(patient.iter().flatten().count(), 6);
        let prompt: Vec<_> = (0..10).map(|_| admission.enter(Priority::Prompt)).collect();
        assert_eq!(prompt.iter().flatten().count(), 6, "twelve are half more than eight");
        drop((patient, prompt));
        assert_eq!(admission.in_flight.load(Relaxed), 0);
    }
}
