//! Looks at the plugin folders again when they change, and when the lists of trusted files and of grants do.

use super::Plugins;
use super::files::FileStamp;
use crate::clock::Clock;
use notify::{RecursiveMode, Watcher};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A file that is being copied changes many times; it is looked at when it has been quiet for so long.
const QUIET: Duration = Duration::from_millis(300);
/// How often the lists are looked at. They lie beside files that change all the time, so their folder is not watched.
const LIST: Duration = Duration::from_secs(2);

/// Watches until it is told to stop. Where the system cannot watch, a rescan is asked for by hand.
pub async fn watch(plugins: Plugins, clock: Clock, shutdown: CancellationToken) {
    let (changed, mut changes) = mpsc::channel(1);
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // One waiting notice is enough.
            let _ = changed.try_send(());
        }
    });
    let mut watcher = match watcher {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!("plugin folders are not watched: {error}");
            return;
        }
    };
    let options = plugins.options();
    for folder in options.bundled.iter().chain([&options.folder]) {
        if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
            tracing::warn!(folder = %folder.display(), "plugin folder is not watched: {error}");
        }
    }
    let stamps = || [&options.trust.lock, &options.grants].map(|list| FileStamp::of(list));
    let mut lists = stamps();
    // What changed before it was watched.
    plugins.rescan().await;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            change = changes.recv() => {
                if change.is_none() {
                    return;
                }
                clock.sleep(QUIET).await;
                while changes.try_recv().is_ok() {}
            }
            () = clock.sleep(LIST) => {
                let now = stamps();
                if now == lists {
                    continue;
                }
                lists = now;
            }
        }
        plugins.rescan().await;
    }
}
