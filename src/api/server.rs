//! The server: accepts connections, and lets go of those that keep it waiting.
//!
//! axum's own `serve` has no clock: who sends half a request keeps the connection for ever, and the stop waits for it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use axum::serve::Listener;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::ServiceExt;

/// How long a client may take for the head of a request, and how long a connection may lie idle before one. A connection
/// is a file descriptor, and the store needs those.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// How long a connection is kept, once stopping, on which no complete request is being answered.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// Answers until `stop` is done, and then the requests that have come whole.
pub async fn serve(mut listener: TcpListener, app: Router, stop: impl Future<Output = ()> + Send) {
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            (stream, _) = Listener::accept(&mut listener) => {
                connections.spawn(connection(stream, app.clone(), stopped.clone()));
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    drop(listener);
    stopping.send_replace(true);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection until the client or the stop ends it.
async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    app: Router,
    stopped: watch::Receiver<bool>,
) {
    let (turn, answering) = watch::channel(false);
    let turn = Turn(Arc::new(turn));
    let service = service_fn(move |request| answer(app.clone(), request, turn.clone()));
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = &mut connection => ended,
        _ = becomes(true, stopped) => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = &mut connection => ended,
                () = abandoned(answering) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection ended early: {error}");
    }
}

/// Done when no complete request has been answered for long enough.
async fn abandoned(answering: watch::Receiver<bool>) {
    loop {
        let again = becomes(false, answering.clone()).await
            && tokio::time::timeout(LEAVE_WITHIN, becomes(true, answering.clone())).await.unwrap_or(false);
        if !again {
            return;
        }
    }
}

/// Waits for a value; false when nobody is left who could set it.
async fn becomes(wanted: bool, mut now: watch::Receiver<bool>) -> bool {
    now.wait_for(|now| *now == wanted).await.is_ok()
}

async fn answer(app: Router, request: Request<Incoming>, turn: Turn) -> Result<Response<Answer>, Infallible> {
    let request = request.map(|body| Body::new(Asked { body, turn: turn.clone() }));
    if HttpBody::is_end_stream(request.body()) {
        turn.set(true);
    }
    let response = app.oneshot(request).await?;
    turn.set(true);
    Ok(response.map(|body| Answer { body, turn }))
}

/// Whether a complete request is being answered on a connection. If not, it is the client's turn.
#[derive(Clone)]
struct Turn(Arc<watch::Sender<bool>>);

impl Turn {
    fn set(&self, answering: bool) {
        self.0.send_if_modified(|now| std::mem::replace(now, answering) != answering);
    }
}

/// A request's body, with whose end the request is complete. So it is when nobody reads the body any more.
struct Asked {
    body: Incoming,
    turn: Turn,
}

impl HttpBody for Asked {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.turn.set(true);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.turn.set(true);
    }
}

/// An answer's body, at whose end it is the client's turn.
struct Answer {
    body: Body,
    turn: Turn,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.turn.set(false);
    }
}
