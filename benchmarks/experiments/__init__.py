"""Questions that training raised, and what answers them: experiments, no figures of a release."""
