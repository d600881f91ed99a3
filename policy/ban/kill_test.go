package ban_test

func childOfKillTest() {}
