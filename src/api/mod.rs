//! The HTTP API. `docs/http.md` is its description; the routes are in [`router`].

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

use crate::actors::handle::Node;
use crate::config::Secret;

mod append;
pub mod body;
mod guard;
mod inside;
mod order;
pub mod percent;
mod probes;
mod reads;
mod replays;
mod reply;
mod request;
mod server;
mod snapshots;
mod travel;

pub use guard::AUTH_SCHEME;
pub use inside::Inside;
pub use reply::POSITION_HEADER;

/// `[http]`, without the address.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of a request's body.
    pub body_limit: usize,
    /// The longest that a read may wait for its bound.
    pub read_wait: Duration,
    /// Empty: none is asked for, and only requests to a loopback name are answered.
    pub token: Secret,
}

/// Where the node will be. The API answers before it is there: alive, and not ready.
#[derive(Clone, Default)]
pub struct NodeSlot(Arc<OnceLock<Arc<dyn Node>>>);

impl NodeSlot {
    /// Hands over the node, once.
    pub fn fill(&self, node: Arc<dyn Node>) {
        // A second node cannot come: the daemon starts one.
        let _ = self.0.set(node);
    }
}

/// What every request sees.
#[derive(Clone)]
struct Face {
    node: NodeSlot,
    options: Arc<Options>,
    metrics: Option<PrometheusHandle>,
}

impl Face {
    fn node(&self) -> Result<&Arc<dyn Node>, reply::Refusal> {
        self.node.0.get().ok_or_else(|| {
            reply::Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "starting", "the node is starting")
                .next("ask again when /startupz says so")
        })
    }
}

/// Answers until `stop` is done and the requests that have come whole are answered.
pub async fn serve(
    listener: TcpListener,
    node: NodeSlot,
    options: Options,
    metrics: Option<PrometheusHandle>,
    stop: impl Future<Output = ()> + Send,
) {
    server::serve(listener, router(node, options, metrics), stop).await;
}

/// What only an operator asks: it changes something, or costs a scan. How long it takes depends on the data, so that no
/// clock ends it.
fn operations() -> Router<Face> {
    Router::new()
        .route("/v1/replays", get(replays::list).post(replays::start))
        .route("/v1/replays/plan", post(replays::plan))
        .route("/v1/replays/{id}", get(replays::one))
        .route("/v1/replays/{id}/{action}", post(replays::act))
        .route("/v1/snapshots", get(snapshots::list).post(snapshots::create))
        .route("/v1/snapshots/{id}", delete(snapshots::delete))
        .route("/v1/snapshots/{id}/verify", post(snapshots::verify))
        .route("/v1/verify", post(snapshots::digests))
        .route("/v1/explain/{view}/", get(travel::explain))
        .route("/v1/explain/{view}/{*key}", get(travel::explain))
        .route("/v1/changes/{view}", get(travel::changes))
        .layer(axum::middleware::from_fn(order::no_web_page))
}

/// All routes.
pub fn router(node: NodeSlot, options: Options, metrics: Option<PrometheusHandle>) -> Router {
    let body_limit = options.body_limit;
    let face = Face { node, options: Arc::new(options), metrics };
    let guarded = Router::new()
        .route("/v1/status", get(probes::status))
        .route("/v1/views", get(probes::views))
        .route("/v1/views/{view}", get(reads::list))
        .route("/v1/views/{view}/", get(reads::get))
        .route("/v1/views/{view}/{*key}", get(reads::get))
        .route("/v1/topics/{topic}/events", post(append::append))
        .route("/metrics", get(probes::metrics))
        .merge(operations())
        .layer(DefaultBodyLimit::max(body_limit))
        .layer(axum::middleware::from_fn_with_state(face.clone(), guard::admit));
    Router::new()
        .merge(guarded)
        .route("/livez", get(probes::livez))
        .route("/readyz", get(probes::readyz))
        .route("/startupz", get(probes::startupz))
        .fallback(async |request: axum::extract::Request| {
            reply::Refusal::new(StatusCode::NOT_FOUND, "no-such-route", format!("there is no {}", request.uri().path()))
                .next("see docs/http.md")
        })
        .method_not_allowed_fallback(async || {
            let message = "the route does not take this method";
            reply::Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", message).next("see docs/http.md")
        })
        .layer(axum::middleware::from_fn_with_state(face.clone(), guard::observe))
        .with_state(face)
}
