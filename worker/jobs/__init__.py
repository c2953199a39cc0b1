"""What is done now and then rather than all the time; plain coroutines, which the timetable names."""
