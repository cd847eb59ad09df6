//! Several things at the same time, in one call of the host's: no tasks and no runtime, they are only polled together.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// As many go on at the same time; the others wait until one is done. The host works on 64 questions of an instance at once.
const AT_ONCE: usize = 32;

/// Something that is under way.
pub type Work<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Waits for all of them. The results are in their order.
pub async fn side_by_side<T>(work: Vec<Work<'_, T>>) -> Vec<T> {
    let mut done: Vec<Option<T>> = work.iter().map(|_| None).collect();
    let mut waiting = work.into_iter().enumerate();
    let mut running = Vec::new();
    poll_fn(|cx| {
        loop {
            running.extend(waiting.by_ref().take(AT_ONCE - running.len()));
            let tried = running.len();
            running.retain_mut(|(place, one)| match one.as_mut().poll(cx) {
                Poll::Ready(result) => {
                    done[*place] = Some(result);
                    false
                }
                Poll::Pending => true,
            });
            match running.len() {
                0 if waiting.len() == 0 => return Poll::Ready(()),
                left if left == tried => return Poll::Pending,
                // Others take their places, and have to be asked once to begin.
                _ => {}
            }
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::task::{Context, Waker};

    /// Is done when it was asked so often.
    async fn after(mut times: usize, result: usize) -> usize {
        poll_fn(|_| {
            times = times.saturating_sub(1);
            if times == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        result
    }

    fn run<T>(work: Vec<Work<'_, T>>) -> (usize, Vec<T>) {
        let mut all = Box::pin(side_by_side(work));
        let mut cx = Context::from_waker(Waker::noop());
        for rounds in 1.. {
            if let Poll::Ready(results) = all.as_mut().poll(&mut cx) {
                return (rounds, results);
            }
        }
        unreachable!("it is asked without end")
    }

    #[test]
    fn results_are_in_their_order_and_nobody_waits_for_the_slow_one() {
        let (rounds, results) = run(vec![Box::pin(after(3, 1)), Box::pin(after(1, 2)), Box::pin(after(2, 3))]);
        assert_eq!(results, [1, 2, 3]);
        assert!(rounds <= 3, "{rounds}");
        assert_eq!(run(Vec::<Work<'_, ()>>::new()).1, []);
    }

    #[test]
    fn only_so_many_go_on_at_once() {
        thread_local!(static RUNNING: (Cell<usize>, Cell<usize>) = const { (Cell::new(0), Cell::new(0)) });
        let one = || {
            Box::pin(async {
                RUNNING.with(|(now, most)| {
                    now.set(now.get() + 1);
                    most.set(most.get().max(now.get()));
                });
                after(2, 0).await;
                RUNNING.with(|(now, _)| now.set(now.get() - 1));
            }) as Work<'static, ()>
        };
        let (_, results) = run((0..100).map(|_| one()).collect());
        assert_eq!((results.len(), RUNNING.with(|(_, most)| most.get())), (100, AT_ONCE));
    }
}
