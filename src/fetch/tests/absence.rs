//! How long "it does not exist" is believed.

use super::*;

const HALF_AN_HOUR: u64 = 1800;

/// Else one object's Secret is deleted, or loses a key, on what was so half an interval ago, when another one asked.
#[tokio::test(start_paused = true)]
async fn absence_is_believed_for_ten_seconds_where_a_value_is_for_half_an_interval() {
    let provider = Provider::new(1);
    let (fetcher, store) = (fetcher(&provider), store("s"));
    provider.fault("gone", Some(ErrorKind::NotFound));
    let both = async || {
        let reads = read(&fetcher, &store, &["gone", "there"], aged(HALF_AN_HOUR)).await;
        assert_eq!(text(&reads[1]), "there as ns");
        reads[0].answer.as_ref().map(|_| text(&reads[0])).map_err(|error| error.kind)
    };
    assert_eq!(both().await, Err(ErrorKind::NotFound));
    provider.fault("gone", None);
    sleep(Duration::from_secs(9)).await;
    assert_eq!(both().await, Err(ErrorKind::NotFound));
    assert_eq!(provider.calls().len(), 2, "those who ask soon after share it");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(both().await, Ok("gone as ns".to_owned()), "it was made since");
    assert_eq!(provider.calls().len(), 3);
}

/// Who takes only what is newer than that gets nothing older.
#[tokio::test(start_paused = true)]
async fn absence_is_no_older_than_what_is_asked_for() {
    let provider = Provider::new(1);
    let (fetcher, store) = (fetcher(&provider), store("s"));
    provider.fault("gone", Some(ErrorKind::NotFound));
    for calls in [1, 2] {
        assert_eq!(kind(&read(&fetcher, &store, &["gone"], aged(2)).await[0]), ErrorKind::NotFound);
        assert_eq!(provider.calls().len(), calls);
        sleep(Duration::from_secs(3)).await;
    }
}

/// Each comes at a time of its own.
#[tokio::test(start_paused = true)]
async fn however_many_miss_one_key_it_costs_a_call_in_ten_seconds() {
    let provider = Provider::new(1);
    let (fetcher, store) = (fetcher(&provider), store("s"));
    provider.fault("gone", Some(ErrorKind::NotFound));
    for _ in 0..900 {
        assert_eq!(kind(&read(&fetcher, &store, &["gone"], aged(HALF_AN_HOUR)).await[0]), ErrorKind::NotFound);
        sleep(Duration::from_millis(60)).await;
    }
    assert_eq!(provider.calls().len(), 6);
}
