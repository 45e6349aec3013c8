"""Few steps with fresh noise between them, and the matching of distributions that leads there."""

import pytest
import torch

from wmcomponents.functional import FewStepSampler, distribution_matching, few_step_times, matching_gradient


def test_a_guess_is_noised_anew_and_guessed_again():
    asked = []

    def guess(x, time):
        asked.append((x, time))
        return 0.5 * x + time

    noise, fresh = torch.randn(2, 1, 3), torch.randn(2, 2, 1, 3)
    x = FewStepSampler((1.0, 0.5, 0.25)).sample(guess, noise, fresh)
    second = 0.5 * (0.5 * noise + 1.0) + 0.5 * fresh[0]
    third = 0.75 * (0.5 * second + 0.5) + 0.25 * fresh[1]
    assert [time for _, time in asked] == [1.0, 0.5, 0.25]
    torch.testing.assert_close(x, 0.5 * third + 0.25)


def test_times_that_do_not_fall_from_noise_are_refused():
    for times in ((), (0.9, 0.5), (1.0, 1.0), (1.0, 0.5, 0.0)):
        with pytest.raises(ValueError, match="fall from 1"):
            FewStepSampler(times)
    for steps, of in ((0, None), (5, 4), (-1, 4)):
        with pytest.raises(ValueError, match="steps are taken"):
            few_step_times(steps, of)


def test_the_gradient_of_the_loss_is_the_direction_and_each_row_has_its_own_scale():
    x, real, fake = torch.randn(2, 3, 4).requires_grad_(), torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    (gradient,) = torch.autograd.grad(distribution_matching(x, real, fake).sum(), x)
    expected = (fake - real) / (x.detach() - real).abs().mean((1, 2), keepdim=True)
    torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close(matching_gradient(x, real, fake).float(), expected)
    assert matching_gradient(real, real, real).eq(0).all()


def test_a_gaussian_generator_reaches_the_gaussian_of_the_data():
    torch.manual_seed(0)
    mean, log_std = torch.tensor(2.0, requires_grad=True), torch.tensor(-1.0, requires_grad=True)
    optimizer = torch.optim.Adam([mean, log_std], 0.05)

    def guess(x, time, mean, std):
        """The mean of the data given x, where the data are Gaussian."""
        alpha = 1.0 - time
        return mean + alpha * std**2 * (x - alpha * mean) / (alpha**2 * std**2 + time**2)

    for _ in range(300):
        data = mean + log_std.exp() * torch.randn(256, 1, 1)
        with torch.no_grad():
            time = torch.rand(256, 1, 1).clamp(0.02, 0.98)
            noisy = (1.0 - time) * data + time * torch.randn_like(data)
            real, fake = guess(noisy, time, -1.0, 1.5), guess(noisy, time, mean, log_std.exp())
        optimizer.zero_grad()
        # One row, so that one scale serves all numbers of the batch.
        distribution_matching(*(value.view(1, 256, 1) for value in (data, real, fake))).mean().backward()
        optimizer.step()
    assert mean.item() == pytest.approx(-1.0, abs=0.2) and log_std.exp().item() == pytest.approx(1.5, abs=0.25)
