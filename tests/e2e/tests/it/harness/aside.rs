//! A server of a test's own, aside from its runtime: meshes of other tests may use it while the test waits.

use std::convert::Infallible;

use axum::Router;
use tokio::sync::oneshot;

/// On a thread and a free port of its own; ends with this value.
pub(crate) struct Aside {
    pub(crate) port: u16,
    _stop: oneshot::Sender<Infallible>,
}

impl Aside {
    pub(crate) fn serve(router: Router) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let port = listener.local_addr().expect("it is bound").port();
        let (stop, stopped) = oneshot::channel::<Infallible>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
                tokio::select! {
                    served = axum::serve(listener, router) => served.expect("it serves"),
                    _ = stopped => {}
                }
            });
        });
        Self { port, _stop: stop }
    }
}
