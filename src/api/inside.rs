//! The same API without a socket: for a command that has the node in its own process.

use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use tower::ServiceExt;

use super::{NodeSlot, Options, router};

/// All routes, called as a program of this machine would.
#[derive(Clone)]
pub struct Inside(Router);

impl Inside {
    /// A token is not asked for: who has the process has the node.
    pub fn new(node: NodeSlot, options: Options) -> Inside {
        let options = Options { token: Default::default(), ..options };
        Inside(router(node, options, None))
    }

    /// The status and the body. The error says what is wrong with the request itself.
    pub async fn request(&self, method: &str, path: &str, body: Option<Vec<u8>>) -> Result<(u16, Vec<u8>), String> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.map_or_else(Body::empty, Body::from))
            .map_err(|error| error.to_string())?;
        let Ok(response) = self.0.clone().oneshot(request).await;
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.map_err(|error| error.to_string())?;
        Ok((status, body.to_vec()))
    }
}
