//! Tests what a run without a 429 stores for the next run.

use super::*;

/// So few requests are refused by no server of these tests.
const UNLIMITED: f64 = 1e9;

fn world(limit: f64, in_flight: usize) -> World {
    World::new(Case { kind: Kind::SlidingWindow, limit, latency: 50, in_flight, refuses_late: true, seed: 1 })
}

/// Within 3 %, as latencies are random.
fn assert_about(served: Option<f64>, expected: f64) {
    let served = served.expect("a rate was served for five seconds");
    assert!((served / expected - 1.0).abs() < 0.03, "{served} instead of {expected}");
}

#[tokio::test(start_paused = true)]
async fn the_served_rate_is_known_after_five_seconds_and_not_before() {
    let mut world = world(UNLIMITED, 200);
    let pace = Arc::new(Pace::new(20.0, Some(60.0)));
    world.ask(&pace);
    world.pass(4).await;
    assert_eq!(pace.served(), None);
    world.pass(6).await;
    assert_about(pace.served(), 60.0);
    assert_eq!(pace.found(), None, "no limit was met");
}

#[tokio::test(start_paused = true)]
async fn the_served_rate_counts_not_the_allowed_one() {
    // Five requests at a time, of 50 ms each.
    let mut world = world(UNLIMITED, 5);
    let pace = Arc::new(Pace::new(1_000.0, None));
    world.ask(&pace);
    world.pass(12).await;
    assert!(pace.rate() >= 1_000.0, "{}", pace.rate());
    let served = pace.served().unwrap();
    assert!((80.0..105.0).contains(&served), "{served}");
}

#[tokio::test(start_paused = true)]
async fn refused_requests_do_not_count_as_served() {
    let mut world = world(40.0, 32);
    let pace = Arc::new(Pace::new(20.0, None));
    world.ask(&pace);
    world.pass(20).await;
    let served = pace.served().unwrap();
    assert!((36.0..41.0).contains(&served), "{served}");
    assert!(pace.found().is_some_and(|found| (36.0..48.0).contains(&found)), "{:?}", pace.found());
}

#[tokio::test(start_paused = true)]
async fn the_best_seconds_of_a_run_that_ends_with_a_wait_count() {
    let mut world = world(UNLIMITED, 32);
    let pace = Arc::new(Pace::new(50.0, Some(50.0)));
    world.ask(&pace);
    world.pass(7).await;
    pace.hold_for(Duration::from_secs(3));
    world.pass(2).await;
    assert_about(pace.served(), 50.0);
    pace.hold_for(Duration::from_secs(20));
    world.pass(18).await;
    assert_eq!(pace.served(), Some(0.0), "that was long ago");
}

#[tokio::test(start_paused = true)]
async fn the_served_rate_is_forgotten_when_the_number_of_workers_changes() {
    let mut world = world(UNLIMITED, 32);
    let pace = Arc::new(Pace::new(50.0, Some(50.0)));
    world.ask(&pace);
    world.pass(8).await;
    pace.share(2, None);
    assert_eq!(pace.served(), None);
    world.pass(7).await;
    assert_about(pace.served(), 25.0);
}

#[tokio::test(start_paused = true)]
async fn the_search_starts_at_the_rate_that_was_served() {
    let seconds_to = async |start: fn(&Pace), rate: f64| {
        let mut world = world(UNLIMITED, 2_000);
        let pace = Arc::new(Pace::new(20.0, None));
        start(&pace);
        let before = pace.rate();
        world.ask(&pace);
        let mut seconds = 0;
        while pace.rate() < rate {
            world.pass(1).await;
            seconds += 1;
        }
        (before, seconds)
    };
    let (before, anew) = seconds_to(|_| (), 1_280.0).await;
    assert!((before - 20.0).abs() < 0.01, "{before}");
    let (before, on) = seconds_to(|pace| pace.search_from(1, 320.0), 1_280.0).await;
    assert!((before - 320.0).abs() < 0.01, "{before}");
    assert!(on <= 3 && on + 3 <= anew, "{on} of {anew} seconds");
    let (before, _) = seconds_to(|pace| pace.search_from(2, 320.0), 320.0).await;
    assert!((before - 160.0).abs() < 0.01, "each of two workers starts with its share: {before}");
}

#[tokio::test(start_paused = true)]
async fn slow_replies_do_not_count_as_a_limit() {
    let mut world = world(UNLIMITED, 500);
    let pace = Arc::new(Pace::new(100.0, Some(100.0)));
    world.ask(&pace);
    world.pass(20).await;
    world.set_latency(1_000);
    world.pass(12).await;
    assert!(pace.rate() < 70.0, "{}", pace.rate());
    assert_eq!(pace.found(), None);
}
