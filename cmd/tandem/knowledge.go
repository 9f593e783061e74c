package main

import "github.com/tandemhq/tandem/agents"

// lumenKnowledge is what the demo organization's AI members answer from. Lumen is made up.
var lumenKnowledge = []agents.Document{
	{Title: "Plans and prices", URL: "https://lumen.example.com/pricing", Body: `Lumen has three plans. Starter costs 29 euros a month for up to 10 people. Team costs 6 euros per person and month for up to 50 people and includes several locations. Company is for more than 50 people and has an agreement of its own.

All prices are without tax. You pay by month or by year, by card or by bank transfer. You can change the plan at any time; the difference is settled on the next invoice.`},
	{Title: "Several locations", URL: "https://lumen.example.com/locations", Body: `Lumen works for any number of locations in one account. Every location has its own rooms, opening hours and holidays. Staff can belong to several locations, and Lumen never books a person or a room twice at the same time.

A manager sees all locations in one calendar or one at a time.`},
	{Title: "Free trial", URL: "https://lumen.example.com/trial", Body: `You can try Lumen for 30 days for free with all features of the Team plan. No card is needed. When the trial ends, your data stays for another 60 days, so nothing is lost if you decide later.`},
	{Title: "Importing from spreadsheets", URL: "https://lumen.example.com/import", Body: `You can import staff, rooms and shifts from a spreadsheet in CSV or Excel format. Lumen shows the columns it found and you say what each one means. A test run shows what would be created before anything is changed, and an import can be undone for seven days.`},
	{Title: "Reminders", URL: "https://lumen.example.com/reminders", Body: `Reminders reach customers by e-mail and by text message. You choose when: a day before, an hour before, or both. Customers can confirm or cancel with one tap. Text messages cost 7 cents each; e-mail is free.`},
	{Title: "Cancelling and booking online", URL: "https://lumen.example.com/booking", Body: `Customers and patients can book, move and cancel appointments online by themselves, on a page that carries your name and colours. You decide how late a cancellation is allowed. A freed slot is offered to the waiting list at once.`},
	{Title: "Calendar connections", URL: "https://lumen.example.com/calendars", Body: `Lumen connects to Google Calendar, Microsoft 365 and any calendar that reads iCalendar. Changes travel both ways within a minute. Private appointments show as busy, without their title.`},
	{Title: "Where data is stored", URL: "https://lumen.example.com/privacy", Body: `All data is stored in data centres in the European Union, in Frankfurt and Stockholm, encrypted at rest and in transit. Lumen signs a data processing agreement with every customer. Backups are kept for 30 days. You can export or delete all your data yourself.`},
	{Title: "The mobile app", URL: "https://lumen.example.com/app", Body: `Field staff and drivers see the plan of their day in the app for iPhone and Android. When the plan changes during the day, the app tells everybody concerned within seconds. The app works without a connection and catches up later.`},
	{Title: "Setting up", URL: "https://lumen.example.com/start", Body: `Most teams are live within two weeks. We set up locations and opening hours with you in the first call, import your data in the first week, and train your managers in the second. Setting up is included in the Team and Company plans.`},
}
