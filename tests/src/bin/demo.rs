//! `make demo`: runs Larder's main job on this machine, shows it, and leaves nothing running.
//! With `KEEP=1` it stays up until Ctrl-C.

use std::process::ExitCode;

use larder_tests::demo::screen::Screen;
use larder_tests::demo::{how_to_use, run};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    let keeps = std::env::var("KEEP").is_ok_and(|keep| !matches!(keep.as_str(), "" | "0"));
    let mut screen = Screen::new(keeps);
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return ExitCode::FAILURE;
    };
    let work = async {
        let demo = run(&mut screen).await?;
        if keeps {
            how_to_use(&screen, &demo).await?;
            std::future::pending::<()>().await;
        }
        demo.stop().await;
        anyhow::Ok(())
    };
    // Dropping the work ends every process that it started.
    let result = tokio::select! {
        result = work => result,
        _ = terminate.recv() => return ExitCode::from(143),
        _ = interrupt.recv() => return if keeps { ExitCode::SUCCESS } else { ExitCode::from(130) },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            Screen::new(false).event(Some(false), &format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
