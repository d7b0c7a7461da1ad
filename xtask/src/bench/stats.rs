//! Numbers about numbers.

/// The `percent`-th percentile by nearest rank: a value that was measured, never one in between.
pub(super) fn percentile(values: &[f64], percent: usize) -> f64 {
    let sorted = sorted(values);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// The middle, or the mean of the two in the middle.
pub(super) fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => f64::NAN,
        (length, middle) if length % 2 == 1 => sorted[middle],
        (_, middle) => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

pub(super) fn minimum(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NAN, f64::min)
}

pub(super) fn maximum(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NAN, f64::max)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middles_and_ends() {
        #[track_caller]
        fn check(values: &[f64], expect: [f64; 4]) {
            assert_eq!([minimum(values), median(values), percentile(values, 99), maximum(values)], expect);
        }
        check(&[3.0], [3.0, 3.0, 3.0, 3.0]);
        check(&[4.0, 1.0, 2.0], [1.0, 2.0, 4.0, 4.0]);
        check(&[4.0, 1.0, 2.0, 3.0], [1.0, 2.5, 4.0, 4.0]);
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        check(&hundred, [1.0, 50.5, 99.0, 100.0]);
        assert_eq!(percentile(&hundred, 50).to_bits(), 50f64.to_bits());
    }

    #[test]
    fn nothing_measured_is_not_a_number() {
        assert!([minimum(&[]), maximum(&[]), median(&[]), percentile(&[], 99)].iter().all(|v| v.is_nan()));
    }
}
