//! Stand-in.
pub mod plugin_listener;
/// Stand-in.
pub mod serve {
    /// .
    #[derive(Debug, Default)]
    pub struct ServeOptions {}
    /// .
    pub async fn serve(_l: tokio::net::TcpListener, _r: axum::Router, _o: ServeOptions, s: impl Future<Output = ()>) {
        s.await;
    }
}
