"""One message a run, posted when there is something to say and edited as the run goes on."""
