//! What many models take of memory, and of the processor when nobody asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::program::{Reference, Server, models};

/// In KiB, as the system counts.
const MIB: u64 = 1 << 10;

/// What a sandbox has besides its budget for models.
const RESERVE_MIB: u64 = 96;

/// The most anonymous memory of a process over a span of time, in KiB.
fn peak_while<R>(server: &Server, work: impl FnOnce() -> R) -> (u64, R) {
    let (most, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    std::thread::scope(|scope| {
        let (seen, ended) = (Arc::clone(&most), Arc::clone(&stop));
        scope.spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                seen.fetch_max(server.status("RssAnon:"), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let done = work();
        stop.store(true, Ordering::Relaxed);
        (most.load(Ordering::Relaxed), done)
    })
}

#[test]
fn twenty_models_through_a_budget_of_five() {
    let root = tempfile::tempdir().unwrap();
    let models = models(root.path(), 20);
    let folder = root.path().join("models");

    // What they take together, with room for all.
    let roomy = Server::start(&folder, 8192, &["--lazy"]);
    // The first load of a process also makes what ONNX Runtime keeps for all others.
    roomy.ask(&models[4].0, &models[4].1).unwrap();
    let before = roomy.status("RssAnon:");
    for (name, reference) in &models {
        roomy.ask(name, reference).unwrap();
    }
    let all = roomy.status("RssAnon:") - before;
    drop(roomy);

    let budget = all * 5 / 20 / MIB;
    let server = Server::start(&folder, budget + RESERVE_MIB, &["--lazy"]);
    let idle = server.status("RssAnon:");
    let (peak, outcomes) = peak_while(&server, || {
        std::thread::scope(|scope| {
            let clients = (0..3).map(|seed| {
                let (server, models) = (&server, &models);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    (0..80).try_for_each(|_| {
                        let (name, reference) = &models[random.usize(..models.len())];
                        server.ask(name, reference)
                    })
                })
            });
            let clients: Vec<_> = clients.collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
        })
    });
    let grown = (peak - idle) / MIB;
    let most = server.status("VmHWM:") / MIB;
    println!(
        "20 models take {} MiB; budget {budget} MiB: peak {grown} MiB over the idle {} MiB; RSS at most {most} MiB",
        all / MIB,
        idle / MIB
    );
    assert_eq!(outcomes, vec![Ok(()); 3]);
    assert!(grown <= budget + budget / 10, "budget {budget} MiB, peak {grown} MiB");
    assert!(
        most <= budget + RESERVE_MIB,
        "all together {most} MiB, in a sandbox of {budget} + {RESERVE_MIB}"
    );
    let (_, listed) = server.send("GET", "/models", "");
    let ready = listed.as_array().unwrap().iter().filter(|m| m["state"] == "ready").count();
    assert!((1..15).contains(&ready), "{ready} models are in memory");
}

#[test]
fn sessions_share_one_pool_that_sleeps() {
    let root = tempfile::tempdir().unwrap();
    let models = models(root.path(), 6);
    // Two processors' worth of memory: a pool of two, that would spin if it were let.
    let server = Server::start(&root.path().join("models"), 3538, &["--lazy"]);
    let ask_all = |models: &[(String, Reference)]| {
        for (name, reference) in models {
            server.ask(name, reference).unwrap();
        }
    };
    ask_all(&models[..1]);
    let threads = server.status("Threads:");
    ask_all(&models);
    let more = server.status("Threads:").saturating_sub(threads);
    // One each would be five; the async runtime may start a thread or two.
    assert!(more <= 3, "{more} threads more for five more sessions");
    let before = server.ticks();
    std::thread::sleep(Duration::from_secs(3));
    let taken = server.ticks() - before;
    // A thread that spins takes 300 ticks.
    assert!(taken <= 10, "{taken} ticks of 10 ms while nothing is asked");
}
