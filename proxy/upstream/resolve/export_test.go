package resolve

// CacheSize and MemorySize let tests see that the caps hold.
func (r *Resolver) CacheSize() int  { return r.cache.size() }
func (r *Resolver) MemorySize() int { return r.memory.size() }

// NameServers returns the servers in the order in which they would be asked.
func (r *Resolver) NameServers() []string { return r.dns.list() }
