//! Tests replies that become slow without a 429.

use super::*;

const LIMIT: f64 = 100_000.0;

/// Returns a worker at a known pace of 100 requests per second, and a server that replies within 50 ms and refuses
/// nothing.
fn calm() -> (World, Arc<Pace>) {
    let case = Case { kind: Kind::FixedWindow, limit: LIMIT, latency: 50, in_flight: 500, refuses_late: true, seed: 1 };
    let mut world = World::new(case);
    let pace = Arc::new(Pace::new(20.0, Some(100.0)));
    pace.share(1, Some(100.0));
    world.ask(&pace);
    (world, pace)
}

#[tokio::test(start_paused = true)]
async fn a_lasting_rise_of_the_latency_lowers_the_pace_gently_until_it_counts_as_usual() {
    let (world, pace) = calm();
    world.pass(20).await;
    assert!(pace.rate() > 99.0, "{}", pace.rate());
    world.set_latency(1_000);
    world.pass(4).await;
    assert!(pace.rate() > 75.0, "gently: {}", pace.rate());
    let mut lowest = f64::INFINITY;
    for _ in 0..12 {
        world.pass(1).await;
        lowest = lowest.min(pace.rate());
    }
    assert!((49.0..60.0).contains(&lowest), "down to a half: {lowest}");
    world.pass(90).await;
    assert!(pace.rate() > 99.0, "the new usual: {}", pace.rate());
}

#[tokio::test(start_paused = true)]
async fn the_pace_recovers_when_replies_are_quick_again() {
    let (world, pace) = calm();
    world.pass(20).await;
    world.set_latency(1_000);
    world.pass(12).await;
    assert!(pace.rate() < 70.0, "{}", pace.rate());
    world.set_latency(50);
    world.pass(20).await;
    assert!(pace.rate() > 99.0, "{}", pace.rate());
}

#[tokio::test(start_paused = true)]
async fn a_few_slow_replies_or_a_slow_second_lower_nothing() {
    let (world, pace) = calm();
    world.pass(20).await;
    for _ in 0..5 {
        world.set_latency(3_000);
        tokio::time::sleep(Duration::from_millis(800)).await;
        world.set_latency(50);
        world.pass(8).await;
        assert!(pace.rate() > 99.0, "{}", pace.rate());
    }
}

#[tokio::test(start_paused = true)]
async fn a_usual_latency_measured_at_a_lucky_moment_does_no_harm() {
    let (world, pace) = calm();
    world.set_latency(1);
    world.pass(2).await;
    world.set_latency(200);
    world.pass(60).await;
    assert!(pace.rate() > 99.0, "{}", pace.rate());
}
