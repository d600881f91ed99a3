package certs

import "time"

// CheckOften has certificates looked at this often whether they are to be renewed.
func (c ACMEConfig) CheckOften(d time.Duration) ACMEConfig {
	c.check = d
	return c
}
